"""Weights by NCCL broadcast, from learner rank 0 to engines on other GPUs. Not run on GPUs so far; see transfer."""

from __future__ import annotations

from functools import partial

from sailrl.sync.transfer import (
    EngineCalls,
    EngineClient,
    Engines,
    Sender,
    SendingLearners,
    TransferSync,
    Weights,
    open_engine,
    vllm_module,
)


class NcclSync(TransferSync):
    """All engines and rank 0 form one group; each publish is one packed broadcast (vLLM's buffers, 2 of 1 GiB).

    Args:
        engines: number of rollout workers.
        gpus_per_engine: their tensor parallelism.
        timeout_s: deadline in seconds of each step of a publish.
    """

    def __init__(
        self, learners: SendingLearners, pool: Engines, *, engines: int, gpus_per_engine: int, timeout_s: float
    ) -> None:
        sender = partial(
            open_sender,
            calls=pool.engine_calls(),
            engines=engines,
            gpus_per_engine=gpus_per_engine,
            timeout_s=timeout_s,
        )
        super().__init__(learners, pool, sender, timeout_s=timeout_s)


def open_sender(
    weights: Weights, rank: int, *, calls: EngineCalls, engines: int, gpus_per_engine: int, timeout_s: float
) -> Sender:
    """The trainer engine of one learner rank. Rank 0 opens the group and sends; the others help to gather shards."""
    nccl = vllm_module("nccl", "vllm.distributed.weight_transfer.nccl_engine")
    network = vllm_module("nccl", "vllm.utils.network_utils")
    init_info = nccl.NCCLTrainerInitInfo(
        master_address=network.get_ip(),
        master_port=network.get_open_port(),
        world_size=1 + engines * gpus_per_engine,
        rank=rank,
    )
    client = EngineClient(calls, engines=engines, gpus_per_engine=gpus_per_engine, timeout_s=timeout_s)
    return open_engine(init_info, weights, client)
