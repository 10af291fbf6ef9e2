"""The Ray actor around one learner rank."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist

from sailrl.config.schema import LoraConfig, RlvrConfig
from sailrl.data.images import ImageStore
from sailrl.data.parcel import Parcel
from sailrl.data.processor import load_processor
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective
from sailrl.learner.reference import ReferencePolicy
from sailrl.learner.shard import shard
from sailrl.learner.vision import Vision
from sailrl.paths import start_in

MEETING = timedelta(minutes=5)
"""How long ranks wait for each other when they start."""


@ray.remote
class LearnerActor:
    """One rank, in two steps: the process starts, then it is told which rank it is and loads the model.

    Args:
        images: folder of the image store.
        state: a checkpoint to continue from, or None.
        start_model: folder or hub name of the model that the run started with.
        start_folder: the folder that relative paths start from.
    """

    def __init__(
        self, config: RlvrConfig, model: str, images: str, *, state: str | None, start_model: str, start_folder: str
    ) -> None:
        start_in(start_folder)
        self._config, self._model, self._images, self._state = config, model, images, state
        self._start_model = start_model

    def meeting_point(self) -> tuple[str, int]:
        """Opens the store through which all ranks find each other, on this rank's machine; returns its address."""
        host = ray.util.get_node_ip_address()
        self._store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=MEETING)
        return host, self._store.port

    def load(self, rank: int, meeting_point: tuple[str, int] | None) -> None:
        """Becomes ``rank`` and loads the model, all ranks together."""
        config, model = self._config, self._model
        device = _device()
        # Ray sets 1 thread. A fixed number, which MKL also uses from here on, makes sums the same in every run.
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(config.learner.threads or max(1, cores // config.learner.ranks))
        torch.manual_seed(config.run.seed + rank)
        if meeting_point is not None:
            store = self._store if rank == 0 else dist.TCPStore(*meeting_point, is_master=False, timeout=MEETING)
            # Loading is one collective after another, while rank 0 reads the whole model; NCCL gives up after 10 min.
            deadline = timedelta(seconds=config.learner.timeout_s)
            # GPU tensors go through NCCL; Python objects, which ranks also exchange, through gloo on the CPU.
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=config.learner.ranks, timeout=deadline)
        processor = load_processor(config.model, config.data, model)
        vision = Vision(processor, ImageStore(Path(self._images))) if processor.image_id is not None else None
        build = partial(
            Policy,
            vision=vision,
            dtype=config.model.dtype,
            temperature=config.rollout.temperature,
            banned_ids=processor.banned_ids,
            frozen=config.model.freeze,
            trust_remote_code=config.model.trust_remote_code,
            activation_checkpointing=config.learner.activation_checkpointing,
            router_float32=config.learner.router_float32,
        )

        def placed(folder: str, adapter: LoraConfig | None) -> Policy:
            make = partial(build, folder, adapter=adapter)
            if meeting_point is None:
                return make().to(device)
            sharing = config.learner.shard_ranks
            return shard(make, device, shard_ranks=sharing, offload=config.learner.offload == "optimizer")

        policy = placed(model, config.model.lora)
        reference = None
        if config.algorithm.kl_coef:
            reference = ReferencePolicy(policy, None if config.model.lora else placed(self._start_model, None))
        objective = Objective(
            config.algorithm,
            config.mismatch,
            max_response_tokens=config.rollout.max_response_tokens,
        )
        self._learner = Learner(policy, objective, config.learner, reference)
        if self._state is not None:
            self._learner.restore(self._state)

    def set_episode(self, parcel: Parcel) -> None:
        """``Learner.set_episode`` with the samples of a parcel."""
        self._learner.set_episode(parcel.samples())

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method of this rank's ``Learner``."""
        return getattr(self._learner, method)(*args, **kwargs)


def _device() -> torch.device:
    """The one GPU that Ray gave this rank, made the current one; the CPU where it gave none."""
    if not torch.cuda.is_available() or not ray.get_gpu_ids():
        return torch.device("cpu")
    torch.cuda.set_device(0)
    return torch.device("cuda", 0)
