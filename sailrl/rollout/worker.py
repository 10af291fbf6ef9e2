"""The Ray shell around one engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import ray

from sailrl.rollout.engine import DirectEngine, Request, Sampling, Stage
from sailrl.types import Completion


@ray.remote
class RolloutWorker:
    """One engine in a process of its own. ``build`` makes it there, since engines do not travel."""

    def __init__(self, build: Any) -> None:
        self._engine: DirectEngine = build()

    async def start(self) -> None:
        await self._engine.start()

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        """Streams ``(index, completions)`` as prompts finish."""
        async for result in self._engine.generate(requests, sampling, seed=seed):
            yield result

    async def prompt_logprobs(self, request: Request) -> list[float]:
        return await self._engine.prompt_logprobs(request)

    async def load_weights(self, folder: str, version: int) -> None:
        await self._engine.load_weights(folder, version)

    async def freeze(self) -> None:
        await self._engine.freeze()

    async def transfer(self, step: str, payload: Any) -> None:
        await self._engine.transfer(step, payload)

    async def thaw(self, version: int) -> None:
        await self._engine.thaw(version)

    async def sleep(self) -> bool:
        return await self._engine.sleep()

    async def wake(self, stage: Stage) -> None:
        await self._engine.wake(stage)

    async def stop(self) -> None:
        await self._engine.stop()
