"""One update of the learner at real size without a GPU: the memory that torch counts beside what `sailrl check` plans.

    python -m benchmarks.fake_update                                # Qwen3-VL-8B and 30B-A3B in RL, 8B in SFT; minutes
    python -m benchmarks.fake_update --case 8b --layers 4           # fewer layers on both sides: a minute
    python -m benchmarks.fake_update --tiny                         # toys, to see that it runs

torch's FakeTensorMode computes shapes and no numbers, so a model of 30B parameters takes no memory. Rank 0 of a process
group that does not communicate shards it with our ``shard`` (FSDP2), and runs our ``Learner``: one micro-batch at the
budget of the shipped configuration, one prompt of the longest length full of image tokens and a response of the longest
length, forward and backward with activation checkpointing and the tiled head; then clipping and AdamW's step. torch's
MemTracker counts the bytes in use. The plan counts upper bounds, so it should be at or above what is counted.

Tensors are on a fake CPU, since FSDP2 needs CUDA for fake GPUs; the head's tiles are those of a GPU. Attention is
torch's fused kernel in both. What a GPU adds, CUDA's own memory and fragmentation, is not counted on either side.

The last line is the largest error.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.distributed._tools.mem_tracker import MemTracker
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._pytree import tree_leaves
from transformers import Qwen3VLConfig, Qwen3VLMoeConfig

from benchmarks.gpu_learner import IMAGE_ID, Pictures
from sailrl.algos import logprobs
from sailrl.config.learner import LearnerConfig
from sailrl.config.load import load_config
from sailrl.config.sft import SftConfig
from sailrl.data.batch import Sample
from sailrl.learner import shard
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective, UpdateScope
from sailrl.learner.shape import model_shape
from sailrl.learner.supervised import SupervisedObjective
from sailrl.learner.vision import Vision
from sailrl.plan.memory import GIB, ModelShape
from sailrl.plan.memory_plan import learner_parts, stage_parts, with_values

ROOT = Path(__file__).parents[1]
CASES = {"8b": "rlvr_8b.yaml", "a3b": "gspo_a3b.yaml", "sft": "longcot_sft.yaml"}
IMAGES = 4
SMALL = (torch.ops.aten.arange, torch.ops.aten.linspace, torch.ops.aten.scalar_tensor)
INDEXED = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_, torch.ops.aten._index_put_impl_)


class ShapesOnly(FakeTensorMode):
    """Fake weights and activations, but real numbers where shapes follow from them: grids, lengths, masks."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        kind = getattr(func, "overloadpacket", None)
        if all(map(_is_real, tensors)) if tensors else kind in SMALL:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if kind in INDEXED:  # how many rows a mask takes is known only from its numbers
            args = (args[0], [place for index in args[1] for place in _places(index)], *args[2:])
        return super().__torch_dispatch__(func, types, args, kwargs)


def _is_real(tensor: torch.Tensor) -> bool:
    return type(tensor) is torch.Tensor and tensor.device.type != "meta"


def _places(index: torch.Tensor | None) -> list[torch.Tensor | None]:
    """A mask as the places that it takes."""
    if index is None or not _is_real(index) or index.dtype != torch.bool:
        return [index]
    with unset_fake_temporarily():
        return list(index.nonzero(as_tuple=True))


class DryLearner(Learner):
    """Makes batches of real numbers, as the host does; everything behind them has shapes only."""

    def _collate(self, rows: Any) -> Any:
        with unset_fake_temporarily():
            return super()._collate(rows)

    def step(self) -> None:
        """Clips and steps as ``optim_step`` does, without a look at the norm, which is no number here."""
        parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        torch.nn.utils.clip_grad_norm_(parameters, self._config.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class DryVision(Vision):
    """Positions and checks are computed from real numbers on the host."""

    def _positions(self, *arguments: Any) -> torch.Tensor:
        with unset_fake_temporarily():
            return super()._positions(*arguments)

    def _load(self, digests: Any) -> Any:
        with unset_fake_temporarily():
            return super()._load(digests)

    def _check(self, *arguments: Any) -> None:
        with unset_fake_temporarily():
            super()._check(*arguments)


@dataclass(frozen=True, slots=True)
class Counted:
    """Bytes at the highest point of one phase."""

    phase: str
    counted: int
    planned: int

    @property
    def error(self) -> float:
        """Of the plan, as a share of what was counted."""
        return self.planned / self.counted - 1


def model_config(name: str, layers: int | None, *, tiny: bool) -> Any:
    """The published configuration of a model; ``layers`` of the language model and of the tower where that is given."""
    experts = name == "a3b"
    text: dict[str, Any] = {"vocab_size": 151936, "head_dim": 128, "num_attention_heads": 32}
    tower: dict[str, Any] = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16}
    tower |= {"patch_size": 16, "deepstack_visual_indexes": [8, 16, 24]}
    if experts:
        text |= {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48, "num_key_value_heads": 4}
        text |= {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "decoder_sparse_step": 1}
    else:
        text |= {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_key_value_heads": 8}
    section = [24, 20, 20]
    if tiny:
        section = [8, 4, 4]
        text |= {"vocab_size": 1000, "hidden_size": 64, "head_dim": 32, "num_hidden_layers": 2}
        text |= {"intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
        text |= {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32} if experts else {}
        tower |= {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4}
        tower |= {"deepstack_visual_indexes": [0, 1]}
    if layers is not None:
        text["num_hidden_layers"], tower["depth"], tower["deepstack_visual_indexes"] = layers, 3, [0, 1, 2]
    tower["out_hidden_size"] = text["hidden_size"]
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": section}
    marks: dict[str, Any] = {
        "image_token_id": IMAGE_ID,
        "video_token_id": 6,
        "vision_start_token_id": 7,
        "vision_end_token_id": 8,
    }
    kind = Qwen3VLMoeConfig if experts else Qwen3VLConfig
    config: Any = kind(text_config=text, vision_config=tower, tie_word_embeddings=False, **marks)
    name = "Qwen3VLMoeForConditionalGeneration" if experts else "Qwen3VLForConditionalGeneration"
    config.architectures = [name]
    return config


@dataclass(frozen=True, slots=True)
class Case:
    """What a shipped configuration says of the learner."""

    learner: LearnerConfig
    dtype: str
    prompt_tokens: int
    response_tokens: int
    objective: Objective | SupervisedObjective
    plan: Callable[[ModelShape], Mapping[str, tuple[int, ...]]]
    """Bytes by part in the phases loss, backward and step."""

    @classmethod
    def of(cls, name: str, ranks: int | None, *, tiny: bool) -> Case:
        """``name`` is a key of ``CASES``; ``ranks`` in place of the configuration's."""
        config: Any = load_config(ROOT / "configs" / CASES[name])
        sizes = {"learner": {} if ranks is None else {"ranks": ranks}}
        if isinstance(config, SftConfig):
            sizes |= {"data": {"max_tokens": 1280}, "training": {"max_tokens_per_microbatch": 1280}} if tiny else {}
            config = with_values(config, **sizes)
            response = config.data.max_tokens // 5
            return cls(
                config.training.learner(config.learner),
                config.model.dtype,
                config.data.max_tokens - response,
                response,
                SupervisedObjective(config.training.loss_reduction),
                partial(stage_parts, config),
            )
        if tiny:
            sizes |= {"data": {"max_prompt_tokens": 1024}, "rollout": {"max_response_tokens": 256}}
            sizes["learner"] = sizes["learner"] | {"max_tokens_per_microbatch": 1280}
        config = with_values(config, **sizes)
        prompt, response = config.data.max_prompt_tokens, config.rollout.max_response_tokens
        return cls(
            config.learner,
            config.model.dtype,
            prompt,
            response,
            Objective(config.algorithm, config.mismatch, max_response_tokens=response),
            partial(learner_parts, config),
        )


def longest_sample(case: Case, side: int) -> Sample:
    """A sample at the limits of prompt and response, full of images of ``side`` x ``side`` tokens."""
    prompt = np.full(case.prompt_tokens, 20, np.int32)
    for number in range(IMAGES):
        start = 1 + number * (side * side + 1)
        prompt[start : start + side * side] = IMAGE_ID
    response = np.full(case.response_tokens, 21, np.int32)
    logp = np.full(len(response), -1.0, np.float32)
    names = tuple(str(number) for number in range(IMAGES))
    return Sample(prompt, response, logp, 1.0, names, IMAGES * side * side)


@contextmanager
def fake_ranks(number: int) -> Iterator[None]:
    """A process group of so many ranks that does not communicate."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=number)
    try:
        yield
    finally:
        dist.destroy_process_group()


def count(name: str, *, ranks: int | None = None, layers: int | None = None, tiny: bool = False) -> list[Counted]:
    """Runs one micro-batch and one step of a case, and returns their peaks beside the plan's."""
    case, hf_config = Case.of(name, ranks, tiny=tiny), model_config(name, layers, tiny=tiny)
    side = int(((case.prompt_tokens - IMAGES - 1) // IMAGES) ** 0.5)
    pictures: Any = Pictures(side, hf_config.vision_config)
    sample = longest_sample(case, side)
    with tempfile.TemporaryDirectory() as folder, fake_ranks(case.learner.ranks):
        hf_config.save_pretrained(folder)
        shape = model_shape(folder)
        mesh = shard.mesh_of(torch.device("cpu"), case.learner.ranks)
        with ShapesOnly(allow_non_fake_inputs=True):
            policy = Policy(
                folder,
                vision=DryVision(pictures, pictures),
                dtype=case.dtype,
                activation_checkpointing=case.learner.activation_checkpointing,
                router_float32=case.learner.router_float32,
                empty=True,
            )
            shard.split(policy, mesh).to_empty(device=torch.device("cpu"))
            learner = DryLearner(policy, case.objective, case.learner)
            for group in learner.optimizer.param_groups:
                group["foreach"] = True  # torch's default on GPUs
            learner.set_episode([sample])
            learner.step()  # AdamW's moments are there from now on
            tokens = len(sample.response_ids) * case.learner.ranks
            scope = UpdateScope(tokens, case.learner.ranks, 0.2, 0.28)
            passing = _peak(learner, lambda: learner.forward_backward([0], scope))
            stepping = _peak(learner, learner.step)
    loss, backward, step, *_ = (sum(sizes) for sizes in zip(*case.plan(shape).values(), strict=True))
    return [Counted("forward and backward", passing, max(loss, backward)), Counted("step", stepping, step)]


def _peak(learner: DryLearner, work: Any) -> int:
    """The most bytes in use at once while ``work`` runs."""
    tracker = MemTracker()
    tracker.track_external(learner.policy, learner.optimizer)
    with tracker:
        work()
    return int(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[*CASES, "all"], default="all")
    parser.add_argument("--ranks", type=int, help="instead of the configuration's")
    parser.add_argument("--layers", type=int, help="of the language model, with three of the tower")
    parser.add_argument("--tiny", action="store_true", help="toys, to see that it runs")
    options = parser.parse_args()
    logprobs.TILES["cpu"] = logprobs.TILES["cuda"]
    found = []
    for case in CASES if options.case == "all" else [options.case]:
        for line in count(case, ranks=options.ranks, layers=options.layers, tiny=options.tiny):
            found.append(line)
            print(
                f"{case}  {line.phase:<21} counted {line.counted / GIB:7.2f} GiB  planned {line.planned / GIB:7.2f} GiB"
                f"  {line.error:+.1%}",
                flush=True,
            )
    print(f"largest error: {max(abs(line.error) for line in found):.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
