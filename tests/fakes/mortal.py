"""Rollout workers that die by script: what a crew does about it can be tested without Ray and without a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from sailrl.errors import WorkerDied
from sailrl.rollout.crew import Crew
from sailrl.rollout.engine import Request, Sampling, Stage
from sailrl.rollout.member import Result
from sailrl.rollout.roster import Roster
from sailrl.types import Completion

Fate = Callable[["MortalWorker"], None]
"""Called whenever a worker is about to finish a prompt, to start, or to load; it may call ``die`` or ``hang``."""


class MortalWorker:
    """Answers a prompt with its own id, the seed and the version of its weights, one tick of the loop each."""

    def __init__(self, number: int, life: int, fate: Fate) -> None:
        self.number, self.life = number, life
        self.doing = ""
        self.done = 0
        """Prompts finished."""
        self.version: int | None = None
        self.folder = ""
        self.dead = self.stopped = self._hanging = False
        self._fate = fate

    def die(self) -> None:
        self.dead = True

    def hang(self) -> None:
        self._hanging = True

    async def start(self) -> None:
        await self._live("start")

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[Result]:
        for request in requests:
            await self._live("generate")
            text = f"{request.token_ids[0]}/{seed}/{self.version}"
            yield request.index, [Completion([1], [-0.5], text, "stop", self.version or 0)] * sampling.samples
            self.done += 1

    async def prompt_logprobs(self, request: Request) -> list[float]:
        await self._live("prompt_logprobs")
        return [float(self.version or 0)]

    async def load_weights(self, folder: str, version: int) -> None:
        await self._live("load_weights")
        self.folder, self.version = folder, version

    async def freeze(self) -> None:
        await self._live("freeze")

    async def thaw(self, version: int) -> None:
        await self._live("thaw")
        self.version = version

    async def sleep(self) -> bool:
        return False

    async def wake(self, stage: Stage) -> None:
        pass

    async def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.dead = True

    async def _live(self, doing: str) -> None:
        await asyncio.sleep(0)
        self.doing = doing
        self._fate(self)
        if self.dead:
            raise WorkerDied(f"it died during {doing}")
        if self._hanging:
            await asyncio.Event().wait()


class MortalCrew(Crew[MortalWorker]):
    """``fate`` decides; ``hired`` are all workers there ever were, in order; ``said`` what people were told."""

    def __init__(
        self,
        fate: Fate = lambda worker: None,
        *,
        workers: int = 2,
        in_flight: int = 8,
        timeout_s: float = 5.0,
        max_restarts: int = 3,
    ) -> None:
        self.hired: list[MortalWorker] = []
        self.said: list[str] = []

        def hire(number: int) -> MortalWorker:
            life = sum(worker.number == number for worker in self.hired)
            self.hired.append(MortalWorker(number, life, fate))
            return self.hired[-1]

        roster = Roster(
            hire,
            workers=workers,
            in_flight=in_flight,
            start_timeout_s=timeout_s,
            max_restarts=max_restarts,
            say=self.said.append,
        )
        super().__init__(roster, timeout_s=timeout_s)
