"""One learner on one GPU: tokens per second, MFU and peak memory at 16,384 packed tokens. No Ray, no vLLM.

    python benchmarks/gpu_learner.py                    # on a GPU: both models, minutes
    python benchmarks/gpu_learner.py --tiny             # anywhere: the same code on two toy models, seconds

Models, randomly initialised: `2b`, a dense vision-language model in the shape of Qwen3-VL-2B, and `a3b`, four layers of
one in the shape of Qwen3-VL-30B-A3B (128 experts, 8 per token) with its whole vision tower. Forward passes run in
bfloat16 on float32 master weights, with activation checkpointing unless --keep-activations.

A micro-batch is what RL on images gives: groups of four rollouts that share a picture, each of 2,048 tokens (1,024 of
the picture, 64 of text, 960 of response), packed into one row. A step is the learner's own ``forward_backward`` on one
micro-batch with the DAPO loss; the optimizer's step, which a real update makes once for many micro-batches, is timed by
itself. Steps before the first timed one are thrown away.

MFU counts what the model needs, nothing twice: 6 operations per active parameter and token (the head only for response
tokens), attention within samples, the vision tower once per picture; recomputed activations and the head's second tile
pass do not count. Its base is the GPU's dense bfloat16 peak, from a table or --peak-tflops.

The last line is MFU over its goal of 45%, of the model measured last; without a known peak it says so instead.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, Qwen3VLConfig, Qwen3VLMoeConfig

from sailrl.config.learner import LearnerConfig
from sailrl.config.losses import Dapo, MismatchConfig
from sailrl.data.batch import Sample, collate
from sailrl.families.qwen_vl import Qwen3Vl
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective, UpdateScope
from sailrl.learner.vision import Vision

MFU_GOAL = 0.45
PEAK_TFLOPS = {
    "H100": 989.0,
    "H200": 989.0,
    "H800": 989.0,
    "GH200": 989.0,
    "A100": 312.0,
    "A800": 312.0,
    "B200": 2250.0,
}
GROUP, TEXT_TOKENS = 4, 64
IMAGE_ID = 5


class Pictures:
    """Stands for processor and image store: every name is a random picture of ``side`` x ``side`` tokens."""

    image_id = IMAGE_ID
    seeing = Qwen3Vl()

    def __init__(self, side: int, vision: Any) -> None:
        self.side, self._merge = side, vision.spatial_merge_size
        self._width = 3 * vision.temporal_patch_size * vision.patch_size**2

    def image(self, name: str) -> int:
        return int(name)

    def crowding(self, pictures: int) -> dict[str, Any]:
        return {}

    def pixels(self, seeds: list[int], *, of: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
        edge = self.side * self._merge
        draws = (torch.Generator().manual_seed(seed) for seed in seeds)
        return [(torch.randn(edge * edge, self._width, generator=g), torch.tensor([1, edge, edge])) for g in draws]

    def features(self, layout: torch.Tensor) -> int:
        return int(layout.prod()) // self._merge**2

    def image_places(self, ids: torch.Tensor) -> torch.Tensor:
        return ids.eq(IMAGE_ID).int()


def build(name: str, tiny: bool) -> Any:
    """The configuration of a model."""
    text: dict[str, Any] = {"vocab_size": 151936, "hidden_size": 2048, "head_dim": 128, "num_key_value_heads": 8}
    tower: dict[str, Any] = {
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "patch_size": 16,
    }
    tower |= {"out_hidden_size": 2048, "deepstack_visual_indexes": [5, 11, 17]}
    if name == "2b":
        text |= {"intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16}
    else:
        text |= {"intermediate_size": 6144, "num_hidden_layers": 4, "num_attention_heads": 32, "num_key_value_heads": 4}
        text |= {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "decoder_sparse_step": 1}
        tower |= {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
    if tiny:
        text |= {
            "vocab_size": 1000,
            "hidden_size": 64,
            "head_dim": 32,
            "num_hidden_layers": 2,
            "intermediate_size": 128,
        }
        text |= {"num_attention_heads": 4, "num_key_value_heads": 2}
        tower |= {"depth": 3, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "out_hidden_size": 64}
        tower |= {"deepstack_visual_indexes": [0, 1]}
        if name == "a3b":
            text |= {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    section = [8, 4, 4] if tiny else [24, 20, 20]
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": section}
    text["tie_word_embeddings"] = tied = name == "2b"
    kind = Qwen3VLConfig if name == "2b" else Qwen3VLMoeConfig
    marks: dict[str, Any] = {
        "image_token_id": IMAGE_ID,
        "video_token_id": 6,
        "vision_start_token_id": 7,
        "vision_end_token_id": 8,
    }
    return kind(text_config=text, vision_config=tower, tie_word_embeddings=tied, **marks)


def samples_of(tokens: int, length: int, side: int, vocabulary: int) -> list[Sample]:
    """Groups of rollouts that fill ``tokens``."""
    draw = np.random.default_rng(0)
    prompt_tokens = side * side + TEXT_TOKENS
    rollouts = []
    for number in range(tokens // length):
        prompt = draw.integers(20, vocabulary, prompt_tokens).astype(np.int32)
        prompt[8 : 8 + side * side] = IMAGE_ID
        response = draw.integers(20, vocabulary, length - prompt_tokens).astype(np.int32)
        logp = np.full(len(response), -np.log(vocabulary), np.float32)
        picture = (str(number // GROUP),)
        rollouts.append(Sample(prompt, response, logp, 1.0 if number % 2 else -0.6, picture, side * side))
    return rollouts


def operations(policy: Policy, samples: list[Sample], grids: int, patches: int) -> float:
    """Of one forward and backward pass, as the model's arithmetic asks for."""
    config = policy.model.config
    text, tower = config.text_config, config.vision_config
    language = seeing = 0.0
    for name, parameter in policy.model.named_parameters():
        if ("embed" in name and "patch_embed" not in name) or name.startswith("lm_head"):
            continue
        share = text.num_experts_per_tok / text.num_experts if ".experts." in name else 1.0
        if ".visual." not in name:
            language += share * parameter.numel()
        elif "merger" in name:  # once per token, not per patch
            seeing += parameter.numel() / tower.spatial_merge_size**2
        else:
            seeing += parameter.numel()
    batch = collate(samples)
    tokens, responses = len(batch.input_ids), sum(len(s.response_ids) for s in samples)
    dense = 6 * (language * tokens + seeing * grids * patches + text.hidden_size * text.vocab_size * responses)
    # Scores and their use: 2 x 2 operations per pair and channel, twice that backward; half the pairs where causal.
    asked = [0 if batch.brings(b) else len(s.prompt_ids) for b, s in enumerate(samples)]  # in another sample already
    pairs = sum(read**2 - done**2 for read, done in zip(batch.lengths, asked, strict=True))
    causal = 6 * text.num_hidden_layers * text.num_attention_heads * text.head_dim * pairs
    whole = 12 * tower.depth * tower.hidden_size * grids * patches**2
    return dense + causal + whole


def measure(name: str, options: argparse.Namespace, device: torch.device) -> float | None:
    """Prints a model's numbers; returns its MFU, None where the peak is not known."""
    config = build(name, options.tiny)
    side, length, tokens = (4, 128, 1024) if options.tiny else (32, 2048, options.tokens)
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        with torch.device(device):
            model: Any = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder)
        del model
        pictures: Any = Pictures(side, config.vision_config)
        policy = Policy(
            folder,
            vision=Vision(pictures, pictures),
            dtype="bfloat16",
            activation_checkpointing=not options.keep_activations,
        ).to(device)
    section = LearnerConfig(max_tokens_per_microbatch=tokens, learning_rate=1e-6)
    learner = Learner(policy, Objective(Dapo(), MismatchConfig(), max_response_tokens=length), section)
    samples = samples_of(tokens, length, side, config.text_config.vocab_size)
    learner.set_episode(samples)
    rows = list(range(len(samples)))
    scope = UpdateScope(sum(len(s.response_ids) for s in samples), len(samples), 0.2, 0.28)

    def timed(work: Any) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for _ in range(2):  # allocations, kernels, Adam's moments
        learner.forward_backward(rows, scope)
        learner.optim_step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    steps = sorted(timed(lambda: learner.forward_backward(rows, scope)) for _ in range(options.steps))
    stepping = timed(learner.optim_step)
    seconds = steps[len(steps) // 2]

    patches = (side * config.vision_config.spatial_merge_size) ** 2
    needed = operations(policy, samples, len({s.images for s in samples}), patches)
    peak = options.peak_tflops or next((v for k, v in PEAK_TFLOPS.items() if k in device_name(device)), None)
    mfu = needed / seconds / (peak * 1e12) if peak else None
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else "not measured"
    size = sum(p.numel() for p in policy.parameters())
    print(
        f"{name}: {size / 1e9:.3g}B parameters, {sum(s.length for s in samples):,} tokens in {len(samples)} samples, "
        f"{needed / 1e12:.3g} Tflop\n"
        f"  forward and backward {seconds:.3f} s (median of {options.steps}), "
        f"{sum(s.length for s in samples) / seconds:,.0f} tokens/s, {needed / seconds / 1e12:.3g} Tflop/s, "
        f"MFU {'unknown' if mfu is None else f'{mfu:.1%}'}\n"
        f"  optimizer step {stepping:.3f} s, peak memory {memory}",
        flush=True,
    )
    return mfu


def device_name(device: torch.device) -> str:
    """Of the GPU, or CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("2b", "a3b", "both"), default="both")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument("--tokens", type=int, default=16384, help="tokens of a micro-batch")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--keep-activations", action="store_true", help="no activation checkpointing")
    parser.add_argument("--peak-tflops", type=float, help="dense bfloat16 peak of the GPU")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.tiny:
        print("There is no GPU here. With --tiny the same code runs on a CPU.", file=sys.stderr)
        return 2
    torch.set_float32_matmul_precision("high")
    print(f"{device_name(device)}, torch {torch.__version__}")
    mfu = None
    for name in ("2b", "a3b") if options.model == "both" else (options.model,):
        mfu = measure(name, options, device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if mfu is None:
        print("MFU over its goal: unknown, this device's peak is not in the table (--peak-tflops)")
    else:
        print(f"MFU over its goal of {MFU_GOAL:.0%}: {mfu / MFU_GOAL:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
