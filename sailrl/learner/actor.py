"""The Ray shell around one learner rank."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist

from sailrl.config.schema import RlvrConfig
from sailrl.data.batch import Sample
from sailrl.data.images import ImageStore
from sailrl.data.parcel import Parcel
from sailrl.data.processor import load_processor
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective, UpdateScope
from sailrl.learner.shard import shard
from sailrl.learner.vision import Vision
from sailrl.learner.weights import CheckpointWeights
from sailrl.types import Prompt

MEETING = timedelta(minutes=5)
"""How long ranks wait for each other at the start."""


@ray.remote
class LearnerActor:
    """One rank, in two steps: the process starts, then it is told which rank it is and loads the model.

    Args:
        images: folder of the image store.
        state: a checkpoint to continue from, or None.
    """

    def __init__(self, config: RlvrConfig, model: str, images: str, *, state: str | None) -> None:
        self._config, self._model, self._images, self._state = config, model, images, state

    def meeting_point(self) -> tuple[str, int]:
        """Opens the store at which all ranks meet, on this rank's machine; its address."""
        host = ray.util.get_node_ip_address()
        self._store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=MEETING)
        return host, self._store.port

    def load(self, rank: int, meeting_point: tuple[str, int] | None) -> bool:
        """Becomes ``rank`` and loads the model, all ranks together; whether it has experts."""
        config, model = self._config, self._model
        self._rank = rank
        device = _device()
        # Ray's own number would be 1. From here on MKL keeps to it, too, and sums are the same in every run.
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(config.learner.threads or max(1, cores // config.learner.ranks))
        torch.manual_seed(config.run.seed + rank)
        if meeting_point is not None:
            store = self._store if rank == 0 else dist.TCPStore(*meeting_point, is_master=False, timeout=MEETING)
            # Tensors go the way of their device; what ranks tell each other in between is on the CPU.
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=config.learner.ranks)
        processor = load_processor(config.model, config.data, model)
        vision = Vision(processor, ImageStore(Path(self._images))) if processor.image_id is not None else None
        build = partial(
            Policy,
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
        )
        if meeting_point is None:
            policy = build().to(device)
        else:
            sharing = config.learner.shard_ranks
            policy = shard(build, device, shard_ranks=sharing, offload=config.learner.offload == "optimizer")
        objective = Objective(
            config.algorithm,
            config.mismatch,
            max_response_tokens=config.rollout.max_response_tokens,
            first_mean_dlogp=config.sync.probe_tolerance,
        )
        self._learner = Learner(policy, objective, config.learner)
        if self._state is not None:
            self._learner.restore(self._state)
        return bool(policy.routers.names)

    def set_episode(self, parcel: Parcel) -> None:
        self._learner.set_episode(parcel.samples())

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
