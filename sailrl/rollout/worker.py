"""One rollout worker: the Ray shell around an engine, and what the other side holds of it.

Prompts and completions travel in bundles: what is asked for in one moment in one call, and in each answer what has
finished since the last. A call of its own for every group would cost both processes a millisecond or more.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import ray
import ray.exceptions

from sailrl.errors import SailError, WorkerDied
from sailrl.rollout.engine import DirectEngine, Engine, Request, Sampling, Stage
from sailrl.rollout.supervisor import start_task
from sailrl.types import Completion

CONCURRENT_CALLS = 64  # coroutines one worker may have open: the one that hands out, and control calls
WATCH_S = 0.5

Order = tuple[int, Sequence[Request], Sampling, int | None]
"""A ticket, and what ``Engine.generate`` is to be called with."""
News = tuple[int, tuple[int, list[Completion]] | SailError | None]
"""A ticket, and one of its results; an error, or None, is the last."""


@ray.remote
class RolloutWorker:
    """One engine in a process of its own. ``build`` makes it there, since engines do not travel."""

    def __init__(self, build: Any) -> None:
        self._engine: DirectEngine = build()
        self._working: set[asyncio.Task[None]] = set()
        self._news: list[News] = []
        self._is_news = asyncio.Event()

    async def start(self) -> None:
        await self._engine.start()
        self._watch = asyncio.create_task(self._end_with_the_engine())

    async def generate(self, orders: Sequence[Order]) -> None:
        """Begins to sample; ``news`` brings what comes of it."""
        for order in orders:
            start_task(self._working, self._carry_out(*order))

    async def news(self) -> list[News]:
        """What has finished since the last call; waits for it."""
        await self._is_news.wait()
        self._is_news.clear()
        news, self._news = self._news, []
        return news

    async def _carry_out(self, ticket: int, requests: Sequence[Request], sampling: Sampling, seed: int | None) -> None:
        last: SailError | None = None
        try:
            async for result in self._engine.generate(requests, sampling, seed=seed):
                self._tell((ticket, result))
        except Exception as error:
            last = readable(error, "generate")
        self._tell((ticket, last))

    def _tell(self, news: News) -> None:
        self._news.append(news)
        self._is_news.set()

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
    """A rollout worker seen from the loop's process; see ``supervisor.Worker``. It begins to start at once."""

    def __init__(self, build: Callable[[], Engine], place: Mapping[str, Any]) -> None:
        actor: Any = RolloutWorker  # ray.remote adds methods that type checkers do not see
        self.actor = actor.options(num_cpus=0, max_concurrency=CONCURRENT_CALLS, **place).remote(build)
        self._started = self.actor.start.remote()
        self._tickets = itertools.count()
        self._waiting: dict[int, asyncio.Queue[Any]] = {}
        """By ticket, where its results go."""
        self._orders: list[Order] = []
        self._errands: set[asyncio.Task[None]] = set()
        self._listens = False

    async def start(self) -> None:
        await _value(self._started, "start")

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        ticket = next(self._tickets)
        results = self._waiting[ticket] = asyncio.Queue[Any]()
        if not self._orders:
            start_task(self._errands, self._send())  # when all who want something in this moment have said so
        self._orders.append((ticket, list(requests), sampling, seed))
        try:
            while (result := await results.get()) is not None:
                if isinstance(result, SailError):
                    raise result
                yield result
        finally:
            del self._waiting[ticket]

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

    async def _send(self) -> None:
        orders, self._orders = self._orders, []
        if not self._listens:
            self._listens = True
            start_task(self._errands, self._listen())
        try:
            await _value(self.actor.generate.remote(orders), "generate")
        except SailError as error:
            for ticket, *_ in orders:
                self._pass_on(ticket, error)

    async def _listen(self) -> None:
        """As long as somebody waits. What nobody waits for any more is dropped."""
        try:
            while self._waiting:
                for ticket, result in await _value(self.actor.news.remote(), "generate"):
                    self._pass_on(ticket, result)
        except SailError as error:
            for ticket in self._waiting:
                self._pass_on(ticket, error)
        finally:
            self._listens = False

    def _pass_on(self, ticket: int, result: Any) -> None:
        if ticket in self._waiting:
            self._waiting[ticket].put_nowait(result)


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
