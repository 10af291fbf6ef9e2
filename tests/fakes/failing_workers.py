"""Rollout workers that die where a test says so: how a pool replaces them is tested without Ray and a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from sailrl.errors import WorkerDied
from sailrl.rollout.engine import Request, Sampling, Stage
from sailrl.rollout.pool import WorkerPool
from sailrl.rollout.supervisor import Result, Supervisor
from sailrl.types import Completion

Fault = Callable[["FailingWorker"], None]
"""Called when a worker is about to start, to load weights, or to finish a prompt; it may call ``die`` or ``hang``."""


class FailingWorker:
    """Answers a prompt with its own id, the seed and the version of its weights, one tick of the loop each."""

    def __init__(self, number: int, attempt: int, fault: Fault) -> None:
        self.number, self.attempt = number, attempt
        self.doing = ""
        self.done = 0
        """Prompts finished."""
        self.version: int | None = None
        self.folder = ""
        self.dead = self.stopped = self._hanging = False
        self._fault = fault

    def die(self) -> None:
        self.dead = True

    def hang(self) -> None:
        self._hanging = True

    async def start(self) -> None:
        await self._step("start")

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[Result]:
        for request in requests:
            await self._step("generate")
            text = f"{request.token_ids[0]}/{seed}/{self.version}"
            yield request.index, [Completion([1], [-0.5], text, "stop", self.version or 0)] * sampling.samples
            self.done += 1

    async def prompt_logprobs(self, request: Request) -> list[float]:
        await self._step("prompt_logprobs")
        return [float(self.version or 0)]

    async def load_weights(self, folder: str, version: int) -> None:
        await self._step("load_weights")
        self.folder, self.version = folder, version

    async def freeze(self) -> None:
        await self._step("freeze")

    async def thaw(self, version: int) -> None:
        await self._step("thaw")
        self.version = version

    async def sleep(self) -> bool:
        return False

    async def wake(self, stage: Stage) -> None:
        pass

    async def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.dead = True

    async def _step(self, doing: str) -> None:
        await asyncio.sleep(0)
        self.doing = doing
        self._fault(self)
        if self.dead:
            raise WorkerDied(f"it died during {doing}")
        if self._hanging:
            await asyncio.Event().wait()


class FailingPool(WorkerPool[FailingWorker]):
    """``fault`` decides which workers die. ``started``: all workers so far; ``messages``: what users were told."""

    def __init__(
        self,
        fault: Fault = lambda worker: None,
        *,
        workers: int = 2,
        in_flight: int = 8,
        timeout_s: float = 5.0,
        max_restarts: int = 3,
    ) -> None:
        self.started: list[FailingWorker] = []
        self.messages: list[str] = []

        def make_worker(number: int) -> FailingWorker:
            attempt = sum(worker.number == number for worker in self.started)
            self.started.append(FailingWorker(number, attempt, fault))
            return self.started[-1]

        supervisor = Supervisor(
            make_worker,
            workers=workers,
            in_flight=in_flight,
            start_timeout_s=timeout_s,
            max_restarts=max_restarts,
            notify=self.messages.append,
        )
        super().__init__(supervisor, timeout_s=timeout_s)
