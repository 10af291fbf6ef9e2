"""Weights from GPU to GPU, over vLLM's own weight transfer engines: what ``nccl`` and ``ipc`` share.

vLLM 0.32 (``vllm.distributed.weight_transfer``) does the transfer. Every learner rank has one of its trainer engines,
which reads the weights from a source and calls the engines through a client with four methods. This module has that
source, that client and the order of the calls; it has no transport of its own.

The order, the names and the deadlines are tested on CPU with vLLM's real trainer engines and a broadcast between
threads. The GPU transports themselves need GPUs: tests/gpu/test_sync_gpu.py. They have not been run so far.
"""

from __future__ import annotations

import asyncio
import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from sailrl.errors import WeightSyncError

GRACE_S = 10.0
"""Extra seconds for a call that itself waits for calls with a deadline: the inner deadline ends first, and its message
names the worker that is late."""


class Weights(Protocol):
    """The learner's weights under checkpoint names; see ``learner.weights.CheckpointWeights``."""

    def metadata(self) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
        """Name, dtype and shape of every tensor, in the order of iteration."""

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and whole tensor; a collective over the ranks."""


class Sender(Protocol):
    """One of vLLM's trainer engines."""

    def send_weights(self) -> None:
        """Runs one whole update, on every rank together."""


EngineCalls = Callable[[str, Sequence[Any], float], None]
"""``calls(step, payloads, timeout_s)``: calls one step of the update on every engine, each with its own payload, and
waits for all. Used in the learner's process; raises a RolloutError that names the engine that failed or was late."""
OpenSender = Callable[[Weights, int], Sender]
"""Makes the trainer engine of one rank, in its process, on all ranks together."""


class SendingLearners(Protocol):
    """What a transfer uses of the learner; see ``learner.group.LearnerGroup``."""

    def open_sender(self, build: OpenSender, *, timeout_s: float) -> None:
        """Calls ``build(weights, rank)`` on every rank and keeps what it returns."""

    def send_weights(self, *, timeout_s: float) -> None:
        """Every rank sends its weights."""


class Engines(Protocol):
    """What a transfer uses of the engines; see ``rollout.pool.RolloutPool``."""

    def engine_calls(self) -> EngineCalls:
        """Calls the engines from the learner's process; it is pickled to there."""

    async def freeze(self, *, timeout_s: float) -> None:
        """Every engine stops computing, keeps its requests and drops its caches."""

    async def thaw(self, version: int, *, timeout_s: float) -> None:
        """Every engine drops its caches and continues with the new weights as ``version``."""


class TransferSync:
    """Freezes the engines, lets the learner ranks send, thaws the engines.

    There is no folder, so a failed probe cannot name stale parameters; with ``sync.method: disk`` it can.

    Args:
        open_sender: makes the trainer engine of a rank; see ``open_sender`` in ``nccl`` and ``ipc``.
        timeout_s: deadline in seconds of each step of a publish.
    """

    def __init__(self, learners: SendingLearners, pool: Engines, open_sender: OpenSender, *, timeout_s: float) -> None:
        self._learners, self._pool, self._open_sender, self._timeout_s = learners, pool, open_sender, timeout_s
        self._connected = False
        self.current: Path | None = None
        self.previous: Path | None = None

    async def publish(self, version: int) -> None:
        """See WeightSync.publish. A failure leaves the engines frozen: half of their weights may be new."""
        # The learner's calls block, so they run in a thread: the event loop continues to receive results.
        if not self._connected:
            await asyncio.to_thread(self._learners.open_sender, self._open_sender, timeout_s=self._timeout_s + GRACE_S)
            self._connected = True
        await self._pool.freeze(timeout_s=self._timeout_s)
        await asyncio.to_thread(self._learners.send_weights, timeout_s=self._timeout_s + GRACE_S)
        await self._pool.thaw(version, timeout_s=self._timeout_s)

    def close(self) -> None:
        """Does nothing: connections end with their processes. Closing them in order needs both sides alive, which they
        may not be after a failure."""


class EngineClient:
    """The four calls that a trainer engine of vLLM makes on the inference side (its ``VLLMWeightSyncClient``).

    vLLM's own ``RayVLLMWeightSyncClient`` gives every engine the same rank offset, so it can serve one engine only,
    and waits without a deadline.

    Args:
        gpus_per_engine: ranks that one engine takes in the transfer group.
    """

    def __init__(self, calls: EngineCalls, *, engines: int, gpus_per_engine: int, timeout_s: float) -> None:
        self._calls, self._engines, self._width, self._timeout_s = calls, engines, gpus_per_engine, timeout_s

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Connects each engine, with its own ranks in the transfer group."""
        infos = [dict(init_info) for _ in range(self._engines)]
        if "rank_offset" in init_info:
            for number, info in enumerate(infos):
                info["rank_offset"] += number * self._width
        self._calls("init_weight_transfer_engine", infos, self._timeout_s)

    def start_weight_update(self) -> None:
        """Engines prepare to receive."""
        self._calls("start_weight_update", [None] * self._engines, self._timeout_s)

    def update_weights(self, update_info: Any) -> None:
        """Engines receive the tensors that ``update_info`` describes."""
        self._calls("update_weights", [update_info] * self._engines, self._timeout_s)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Engines convert the received weights to their final layout. ``thaw`` sets the version."""
        self._calls("finish_weight_update", [None] * self._engines, self._timeout_s)


class Source:
    """The learner's weights as vLLM's ``WeightSource`` (the parts that its NCCL and IPC engines read)."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def metadata(self) -> list[Any]:
        """Name, dtype and shape of every tensor that is sent, in the order of iteration."""
        from vllm.distributed.weight_transfer.base import ParamMeta

        return [ParamMeta(name, dtype, shape) for name, dtype, shape in self._weights.metadata()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and whole tensor."""
        return iter(self._weights)


def buffer_bytes(weights: Weights) -> int:
    """Size of vLLM's packing buffer: its own default of 1 GiB, or the size of the largest tensor, which its packer for
    IPC does not split (the embedding of an 8B model has 1.16 GiB in bfloat16)."""
    sizes = (math.prod(shape) * dtype.itemsize for _, dtype, shape in weights.metadata())
    return max(1 << 30, *sizes)


def vllm_module(method: str, name: str) -> Any:
    """A module of vLLM, in the learner's process.

    Raises:
        WeightSyncError: there is no vLLM of the right version, or no GPU that it could send from.
    """
    fix = "Write sync.method: disk."
    if not torch.cuda.is_available():
        raise WeightSyncError(f"sync.method is {method}, but the learner has no GPU to send weights from. {fix}")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise WeightSyncError(
            f"sync.method is {method}, which needs vLLM 0.32 or later where the learner runs: {error}. {fix}"
        ) from error


def open_engine(init_info: Any, weights: Weights, client: EngineClient) -> Sender:
    """vLLM's trainer engine for ``init_info``, connected to the engines behind ``client``."""
    from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

    source: Any = Source(weights)  # duck-typed: inheriting from vLLM's class would import vLLM with this file
    return WeightTransferTrainerFactory.trainer_init(init_info, client=client, source=source)
