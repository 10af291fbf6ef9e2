"""One rollout worker: the Ray shell around an engine, and what the other side holds of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import ray
import ray.exceptions

from sailrl.errors import SailError, WorkerDied
from sailrl.rollout.engine import DirectEngine, Engine, Request, Sampling, Stage
from sailrl.types import Completion

CONCURRENT_CALLS = 1024  # coroutines one worker may have open: one per prompt in flight, and control calls
WATCH_S = 0.5


@ray.remote
class RolloutWorker:
    """One engine in a process of its own. ``build`` makes it there, since engines do not travel."""

    def __init__(self, build: Any) -> None:
        self._engine: DirectEngine = build()

    async def start(self) -> None:
        await self._engine.start()
        self._watch = asyncio.create_task(self._end_with_the_engine())

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
        self._watch.cancel()
        await self._engine.stop()

    async def _end_with_the_engine(self) -> None:
        """Control calls to a dead engine wait for ever; the end of this process answers all who wait."""
        while self._engine.alive():
            await asyncio.sleep(WATCH_S)
        os._exit(1)


class RemoteWorker:
    """A rollout worker seen from the loop's process; see ``member.Worker``. It begins to start at once."""

    def __init__(self, build: Callable[[], Engine], place: Mapping[str, Any]) -> None:
        actor: Any = RolloutWorker  # ray.remote adds methods that type checkers do not see
        self.actor = actor.options(num_cpus=0, max_concurrency=CONCURRENT_CALLS, **place).remote(build)
        self._started = self.actor.start.remote()

    async def start(self) -> None:
        await _value(self._started, "start")

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        stream = self.actor.generate.options(num_returns="streaming").remote(list(requests), sampling, seed)
        try:
            async for item in stream:
                yield await item
        except Exception as error:
            raise readable(error, "generate") from error

    async def prompt_logprobs(self, request: Request) -> list[float]:
        return await _value(self.actor.prompt_logprobs.remote(request), "prompt_logprobs")

    async def load_weights(self, folder: str, version: int) -> None:
        await _value(self.actor.load_weights.remote(folder, version), "load_weights")

    async def freeze(self) -> None:
        await _value(self.actor.freeze.remote(), "freeze")

    async def thaw(self, version: int) -> None:
        await _value(self.actor.thaw.remote(version), "thaw")

    async def sleep(self) -> bool:
        return await _value(self.actor.sleep.remote(), "sleep")

    async def wake(self, stage: Stage) -> None:
        await _value(self.actor.wake.remote(stage), "wake")

    async def stop(self) -> None:
        await _value(self.actor.stop.remote(), "stop")

    def kill(self) -> None:
        ray.kill(self.actor)


async def _value(ref: Any, what: str) -> Any:
    try:
        return await ref
    except Exception as error:
        raise readable(error, what) from error


def readable(error: BaseException, what: str) -> SailError:
    """Our own error, whatever Ray wrapped around it. What is not an error of ours is the death of the worker."""
    if isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause  # as_instanceof_cause() would put Ray's traceback in place of the message
    if isinstance(error, SailError):
        return error
    if isinstance(error, ray.exceptions.RayActorError):
        # Of an error in its constructor Ray tells the whole traceback, with the error at its end.
        said = str(error).strip().splitlines()
        return WorkerDied(f"it died during {what} ({said[-1 if error.actor_init_failed else 0]})")
    return WorkerDied(f"it failed in {what}: {type(error).__name__}: {error}")
