"""Weights through CUDA IPC: learner rank and engine on the same GPU, nothing travels. Not run on GPUs so far; see
transfer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sailrl.sync.transfer import (
    EngineCalls,
    EngineClient,
    Engines,
    Learners,
    Sender,
    TransferSync,
    Weights,
    buffer_bytes,
    open_engine,
    vllm_module,
)

ENGINE_ENVIRONMENT: Mapping[str, str] = {"VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}
"""An engine's processes hand memory handles on to each other by pickle, which vLLM wants to be told (its own IPC
examples do it too). Both ends are ours and on one machine."""


class IpcSync(TransferSync):
    """Each engine opens the buffer that the learner rank on its own GPU fills, one GiB after the other.

    Args:
        engines: rollout workers, one per learner rank, each on that rank's GPU.
        timeout_s: deadline of each part of a publish.
    """

    def __init__(self, learners: Learners, pool: Engines, *, engines: int, timeout_s: float) -> None:
        sender = partial(open_sender, calls=pool.engine_calls(), engines=engines, timeout_s=timeout_s)
        super().__init__(learners, pool, sender, timeout_s=timeout_s)


def open_sender(weights: Weights, rank: int, *, calls: EngineCalls, engines: int, timeout_s: float) -> Sender:
    """The trainer engine of one learner rank. Every rank shares its GPU's buffer, rank 0 tells the engines where."""
    ipc = vllm_module("ipc", "vllm.distributed.weight_transfer.ipc_engine")
    # Packed: otherwise a second copy of all weights is held until the engines have read the last of them.
    init_info = ipc.IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=buffer_bytes(weights))
    client = EngineClient(calls, engines=engines, gpus_per_engine=1, timeout_s=timeout_s)
    return open_engine(init_info, weights, client)
