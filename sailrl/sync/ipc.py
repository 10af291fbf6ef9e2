"""Weights through CUDA IPC: learner rank and engine share a GPU, and the engine reads the learner's memory. Not run on
GPUs so far; see transfer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sailrl.sync.transfer import (
    EngineCalls,
    EngineClient,
    Engines,
    Sender,
    SendingLearners,
    TransferSync,
    Weights,
    buffer_bytes,
    open_engine,
    vllm_module,
)

ENGINE_ENVIRONMENT: Mapping[str, str] = {"VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}
"""vLLM's processes send memory handles to each other by pickle, which this variable allows (vLLM's own IPC examples set
it too). Both ends are our own processes on one machine."""


class IpcSync(TransferSync):
    """Each engine opens the buffer of the learner rank on its own GPU, which sends the weights in parts of one GiB.

    Args:
        engines: rollout workers, one per learner rank, each on that rank's GPU.
        timeout_s: deadline in seconds of each step of a publish.
    """

    def __init__(self, learners: SendingLearners, pool: Engines, *, engines: int, timeout_s: float) -> None:
        sender = partial(open_sender, calls=pool.engine_calls(), engines=engines, timeout_s=timeout_s)
        super().__init__(learners, pool, sender, timeout_s=timeout_s)


def open_sender(weights: Weights, rank: int, *, calls: EngineCalls, engines: int, timeout_s: float) -> Sender:
    """The trainer engine of one learner rank. Every rank shares a buffer, rank 0 sends the handles to the engines."""
    ipc = vllm_module("ipc", "vllm.distributed.weight_transfer.ipc_engine")
    # Packed: otherwise a second copy of all weights stays in memory until the engines have read all of them.
    init_info = ipc.IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=buffer_bytes(weights))
    client = EngineClient(calls, engines=engines, gpus_per_engine=1, timeout_s=timeout_s)
    return open_engine(init_info, weights, client)
