"""Both ends of a direct weight transfer, on CPU: vLLM's own trainer engines, and engines that receive from them.

Only what needs a GPU is replaced: the NCCL broadcast by a queue between threads, CUDA's memory handles by those of
ordinary memory. Start, receive, finish, their order, names, shapes and errors are vLLM's.
"""

from __future__ import annotations

import asyncio
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from sailrl.errors import RolloutError
from sailrl.rollout.engine import Request, Sampling
from sailrl.sync.transfer import EngineCalls, EngineClient, OpenSender, Sender, Weights, open_engine
from sailrl.types import Completion, Prompt
from tests.fakes.local import LocalEngine, LocalLearners

GPU = "a GPU that is ordinary memory"
_ONE_AT_A_TIME = threading.Lock()
"""``from_pretrained`` switches weight tying off and on for the whole process: two threads in it can leave it off."""


class ReceivingEngine(LocalEngine):
    """Takes weights under checkpoint names, as vLLM's ``load_weights`` does, and notes every step.

    Args:
        wire: where broadcast tensors arrive; None for handles of shared memory.
        slow: step that takes a second too long.
        broken: step that fails.
    """

    def __init__(
        self, folder: str | Path, wire: queue.Queue[Any] | None = None, *, slow: str = "", broken: str = ""
    ) -> None:
        super().__init__(folder)
        self._folder, self._wire, self._slow, self._broken = Path(folder), wire, slow, broken
        self.steps: list[str] = []
        self.init_info: dict[str, Any] = {}
        self._received: dict[str, torch.Tensor] = {}

    async def freeze(self) -> None:
        self.steps.append("freeze")

    async def thaw(self, version: int) -> None:
        self.steps.append("thaw")
        self.version = version

    async def transfer(self, step: str, payload: Any) -> None:
        self.steps.append(step)
        if step == self._broken:
            raise RolloutError(f"{step} is broken here")
        if step == self._slow:
            await asyncio.sleep(1.0)
        match step:
            case "init_weight_transfer_engine":
                self.init_info = payload
            case "start_weight_update":
                self._received = {}
            case "update_weights":
                self._received |= self._receive(payload)
            case "finish_weight_update":
                with _ONE_AT_A_TIME, tempfile.TemporaryDirectory() as new:
                    shutil.copy(self._folder / "config.json", new)
                    save_file(self._received, Path(new) / "model.safetensors", metadata={"format": "pt"})
                    self._load(new)

    def _receive(self, info: dict[str, Any]) -> dict[str, torch.Tensor]:
        from torch.multiprocessing.reductions import rebuild_tensor

        if self._wire is None:
            tensors = [rebuild_tensor(*handle[GPU]).clone() for handle in info["ipc_handles"]]
        else:
            tensors = [self._wire.get(timeout=10) for _ in info["names"]]
        for tensor, dtype, shape in zip(tensors, info["dtype_names"], info["shapes"], strict=True):
            assert (tensor.dtype, list(tensor.shape)) == (getattr(torch, dtype), list(shape))
        return dict(zip(info["names"], tensors, strict=True))


class SeveralPool:
    """Several engines in one process; the learner's calls come from its own thread, as from another process."""

    def __init__(self, *engines: ReceivingEngine) -> None:
        self.engines = engines

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        return self.engines[0].generate(requests, sampling, seed=seed)

    async def prompt_logprobs(self, prompt: Prompt) -> list[list[float]]:
        request = Request(0, prompt.engine_ids, prompt.images, len(prompt.token_ids))
        return [await engine.prompt_logprobs(request) for engine in self.engines]

    async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
        for engine in self.engines:
            await engine.load_weights(folder, version)

    async def freeze(self, *, timeout_s: float) -> None:
        for engine in self.engines:
            await engine.freeze()

    async def thaw(self, version: int, *, timeout_s: float) -> None:
        for engine in self.engines:
            await engine.thaw(version)

    def engine_calls(self) -> EngineCalls:
        def calls(step: str, payloads: Sequence[Any], timeout_s: float) -> None:
            threads = ThreadPoolExecutor(len(self.engines))
            steps = [
                threads.submit(asyncio.run, engine.transfer(step, payload))
                for engine, payload in zip(self.engines, payloads, strict=True)
            ]
            _, late = wait(steps, timeout=timeout_s)
            threads.shutdown(wait=False)
            if late:
                raise RolloutError(f"rollout worker {[steps.index(one) for one in late]} did not finish {step}")
            for one in steps:
                one.result()

        return calls


class SendingLearners(LocalLearners):
    """One rank that can send."""

    def open_sender(self, build: OpenSender, *, timeout_s: float) -> None:
        self.learner.open_sender(build)

    def send_weights(self, *, timeout_s: float) -> None:
        self.learner.send_weights()


def open_broadcast(
    weights: Weights,
    rank: int,
    *,
    calls: EngineCalls,
    wires: Sequence[queue.Queue[Any]],
    gpus_per_engine: int,
    timeout_s: float,
) -> Sender:
    """``nccl.open_sender`` with queues for a network."""
    from vllm.distributed.weight_transfer import nccl_engine as nccl

    class Broadcast(nccl.NCCLTrainerWeightTransferEngine):
        @classmethod
        def trainer_init(cls, init_info: Any, *, client: Any, source: Any = None) -> Any:
            worker = nccl.NCCLWeightTransferInitInfo(
                master_address=init_info.master_address,
                master_port=init_info.master_port,
                rank_offset=1,
                world_size=init_info.world_size,
            )
            client.init_weight_transfer_engine(nccl.worker_init_payload(worker))
            return cls(client=client, source=source)

        def _broadcast(self, source: Any, meta: Any) -> None:
            for _, tensor in self._checked_iter(source, meta):
                for wire in wires:
                    wire.put(tensor)

    @dataclass
    class Info(nccl.NCCLTrainerInitInfo):
        backend: ClassVar[str] = _register(Broadcast)

    world = 1 + len(wires) * gpus_per_engine
    client = EngineClient(calls, engines=len(wires), gpus_per_engine=gpus_per_engine, timeout_s=timeout_s)
    return open_engine(Info("nowhere", 1, world, rank=rank), weights, client)


def open_shared(weights: Weights, rank: int, *, calls: EngineCalls, engines: int, timeout_s: float) -> Sender:
    """``ipc.open_sender`` with memory of the CPU, which torch can share, too."""
    from vllm.distributed.weight_transfer import ipc_engine as ipc
    from vllm.distributed.weight_transfer.base import TrainerWeightTransferEngine

    class Shared(ipc.IPCTrainerWeightTransferEngine):
        def __init__(self, *, client: Any, source: Any, is_sender: bool = True, **_: Any) -> None:
            TrainerWeightTransferEngine.__init__(self, client=client, source=source, is_sender=is_sender)
            self.packed, self.gpu_uuid = False, GPU

        def _all_gather_and_merge_handles(self, handles: list[Any]) -> list[Any]:
            if dist.is_initialized():
                dist.barrier()
            return handles if self.is_sender else [{} for _ in handles]

        @staticmethod
        def _post_send_sync() -> None:
            pass

    @dataclass
    class Info(ipc.IPCTrainerInitInfo):
        backend: ClassVar[str] = _register(Shared)

    client = EngineClient(calls, engines=engines, gpus_per_engine=1, timeout_s=timeout_s)
    return open_engine(Info(rank=rank), weights, client)


def _register(engine: type[Any]) -> str:
    from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

    name = f"test-{time.monotonic_ns()}"
    WeightTransferTrainerFactory.register_engine(name, engine)
    return name
