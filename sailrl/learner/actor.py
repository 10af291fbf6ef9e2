"""The Ray shell around one learner rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist

from sailrl.config.schema import RlvrConfig
from sailrl.data.batch import Sample
from sailrl.data.images import ImageStore
from sailrl.data.processor import load_processor
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective, UpdateScope
from sailrl.learner.vision import Vision
from sailrl.learner.weights import CheckpointWeights
from sailrl.types import Prompt


@ray.remote
class LearnerActor:
    """One rank. ``images`` is the folder of the image store, ``state`` a checkpoint to continue from, or None."""

    def __init__(
        self,
        config: RlvrConfig,
        model: str,
        images: str,
        *,
        rank: int,
        rendezvous: str,
        state: str | None,
    ) -> None:
        self._rank = rank
        device = _device()
        if config.learner.threads:
            torch.set_num_threads(config.learner.threads)
        torch.manual_seed(config.run.seed + rank)
        if config.learner.ranks > 1:
            # Tensors go the way of their device; what ranks tell each other in between is on the CPU.
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=config.learner.ranks)
        processor = load_processor(config.model, config.data, model)
        vision = Vision(processor, ImageStore(Path(images))) if processor.image_id is not None else None
        policy = Policy(
            model,
            vision=vision,
            dtype=config.model.dtype,
            temperature=config.rollout.temperature,
            banned_ids=processor.banned_ids,
            frozen=config.model.freeze,
            adapter=config.model.lora,
            trust_remote_code=config.model.trust_remote_code,
            activation_checkpointing=config.learner.activation_checkpointing,
            router_float32=config.learner.router_float32,
        ).to(device)
        longest = config.rollout.max_response_tokens
        objective = Objective(
            config.algorithm,
            config.mismatch,
            max_response_tokens=longest,
            first_mean_dlogp=config.sync.probe_tolerance,
        )
        self._learner = Learner(policy, objective, config.learner)
        if state is not None:
            self._learner.restore(state)

    def ready(self) -> None:
        """Returns once the model is loaded."""

    def set_episode(self, samples: Sequence[Sample]) -> None:
        self._learner.set_episode(samples)

    def compute_old_logprobs(self) -> None:
        self._learner.compute_old_logprobs()

    def update(self, rows: Sequence[int], scope: UpdateScope) -> dict[str, float]:
        return self._learner.update(rows, scope)

    def prompt_logprobs(self, prompt: Prompt) -> list[float]:
        return self._learner.prompt_logprobs(prompt)

    def expert_load(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        return self._learner.expert_load(prompts)

    def explain_stale(self, prompt: Prompt, engine: Sequence[float], previous: str) -> list[str]:
        return self._learner.explain_stale(prompt, engine, previous)

    def explain_weights(
        self, prompt: Prompt, engine: Sequence[float], published: str | None, previous: str | None
    ) -> list[str]:
        return self._learner.explain_weights(prompt, engine, published, previous)

    def explain_responses(self, samples: Sequence[Sample], engine_prompts: Sequence[Sequence[int]]) -> str | None:
        return self._learner.explain_responses(samples, engine_prompts)

    def export(self, folder: str) -> None:
        self._learner.export(folder)

    def open_sender(self, build: Callable[[CheckpointWeights, int], Any]) -> None:
        self._learner.open_sender(build, self._rank)

    def send_weights(self) -> None:
        self._learner.send_weights()

    def free_memory(self) -> None:
        torch.cuda.empty_cache()  # does nothing where there is no GPU

    def save(self, folder: str) -> None:
        self._learner.save(folder)


def _device() -> torch.device:
    """The one GPU that Ray gave this rank, made the current one; the CPU where it gave none."""
    if not torch.cuda.is_available() or not ray.get_gpu_ids():
        return torch.device("cpu")
    torch.cuda.set_device(0)
    return torch.device("cuda", 0)
