"""The Ray actor around one learner rank."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed as dist

from sailrl.data.parcel import Parcel
from sailrl.learner.build import LearnerSpec
from sailrl.paths import start_in

MEETING = timedelta(minutes=5)
"""How long ranks wait for each other when they start."""


@ray.remote
class LearnerActor:
    """One rank, in two steps: the process starts, then it is told which rank it is and loads the model.

    Args:
        start_folder: the folder that relative paths start from.
    """

    def __init__(self, spec: LearnerSpec, *, start_folder: str) -> None:
        start_in(start_folder)
        self._spec = spec

    def meeting_point(self) -> tuple[str, int]:
        """Opens the store through which all ranks find each other, on this rank's machine; returns its address."""
        host = ray.util.get_node_ip_address()
        self._store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=MEETING)
        return host, self._store.port

    def load(self, rank: int, meeting_point: tuple[str, int] | None) -> None:
        """Becomes ``rank`` and loads the model, all ranks together."""
        device, config = _device(), self._spec.learner
        if meeting_point is not None:
            store = self._store if rank == 0 else dist.TCPStore(*meeting_point, is_master=False, timeout=MEETING)
            # Loading is one collective after another, while rank 0 reads the whole model; NCCL gives up after 10 min.
            deadline = timedelta(seconds=config.timeout_s)
            # GPU tensors go through NCCL; Python objects, which ranks also exchange, through gloo on the CPU.
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=config.ranks, timeout=deadline)
        self._learner = self._spec.build(device, rank)

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
