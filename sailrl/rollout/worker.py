"""One rollout worker: the Ray actor around an engine, and the handle through which the loop's process uses it.

Calls are batched: all ``generate`` calls of one turn of the event loop go to the actor in one Ray call, and each reply
has all results since the last reply. One Ray call per group would cost both processes a millisecond or more.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import ray
import ray.exceptions

from sailrl.errors import SailError, WorkerDied, memory_kill
from sailrl.paths import start_in
from sailrl.rollout.engine import DirectEngine, Engine, Request, Sampling, Stage
from sailrl.rollout.supervisor import start_task
from sailrl.types import Completion

CONCURRENT_CALLS = 64  # Ray calls that one worker may run at the same time
WATCH_S = 0.5

Job = tuple[int, Sequence[Request], Sampling, int | None]
"""The number of a ``generate`` call, and its arguments."""
Event = tuple[int, tuple[int, list[Completion]] | SailError | None]
"""The number of a ``generate`` call, and one of its results. The last one is an error, or None for success."""


@ray.remote
class RolloutWorker:
    """One engine in its own process. ``build`` makes it there, since engines cannot be pickled.

    Args:
        start_folder: the folder that relative paths start from.
    """

    def __init__(self, build: Any, start_folder: str) -> None:
        start_in(start_folder)
        self._engine: DirectEngine = build()
        self._working: set[asyncio.Task[None]] = set()
        self._events: list[Event] = []
        self._has_events = asyncio.Event()

    async def start(self) -> None:
        await self._engine.start()
        self._watch = asyncio.create_task(self._exit_when_engine_dies())

    async def generate(self, jobs: Sequence[Job]) -> None:
        """Starts jobs; ``results`` returns what they yield."""
        for job in jobs:
            start_task(self._working, self._run(*job))

    async def results(self) -> list[Event]:
        """Waits until there is a result; returns all since the last call."""
        await self._has_events.wait()
        self._has_events.clear()
        events, self._events = self._events, []
        return events

    async def _run(self, number: int, requests: Sequence[Request], sampling: Sampling, seed: int | None) -> None:
        last: SailError | None = None
        try:
            async for result in self._engine.generate(requests, sampling, seed=seed):
                self._add((number, result))
        except Exception as error:
            last = readable(error, "generate")
        self._add((number, last))

    def _add(self, event: Event) -> None:
        self._events.append(event)
        self._has_events.set()

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

    async def _exit_when_engine_dies(self) -> None:
        """Calls to a dead engine never return. When this process exits, Ray ends all of them with an error."""
        while self._engine.alive():
            await asyncio.sleep(WATCH_S)
        os._exit(1)


class RemoteWorker:
    """The loop's handle of a rollout worker; see ``supervisor.Worker``. The worker begins to start at once."""

    def __init__(self, build: Callable[[], Engine], options: Mapping[str, Any]) -> None:
        actor: Any = RolloutWorker  # ray.remote adds methods that type checkers do not see
        self.actor = actor.options(num_cpus=0, max_concurrency=CONCURRENT_CALLS, **options).remote(build, os.getcwd())
        self._started = self.actor.start.remote()
        self._numbers = itertools.count()
        self._queues: dict[int, asyncio.Queue[Any]] = {}
        """The results of each ``generate`` call that is still open, by its number."""
        self._jobs: list[Job] = []
        """To be sent in the next Ray call."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._receiving = False

    async def start(self) -> None:
        await _value(self._started, "start")

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        number = next(self._numbers)
        results = self._queues[number] = asyncio.Queue[Any]()
        if not self._jobs:
            start_task(self._tasks, self._send())  # runs after all callers of this turn of the loop have added theirs
        self._jobs.append((number, list(requests), sampling, seed))
        try:
            while (result := await results.get()) is not None:
                if isinstance(result, SailError):
                    raise result
                yield result
        finally:
            del self._queues[number]

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
        jobs, self._jobs = self._jobs, []
        if not self._receiving:
            self._receiving = True
            start_task(self._tasks, self._receive())
        try:
            await _value(self.actor.generate.remote(jobs), "generate")
        except SailError as error:
            for number, *_ in jobs:
                self._deliver(number, error)

    async def _receive(self) -> None:
        """Fetches results while there are open calls. Results of calls that were cancelled are dropped."""
        try:
            while self._queues:
                for number, result in await _value(self.actor.results.remote(), "generate"):
                    self._deliver(number, result)
        except SailError as error:
            for number in self._queues:
                self._deliver(number, error)
        finally:
            self._receiving = False

    def _deliver(self, number: int, result: Any) -> None:
        if number in self._queues:
            self._queues[number].put_nowait(result)


async def _value(ref: Any, what: str) -> Any:
    try:
        return await ref
    except Exception as error:
        raise readable(error, what) from error


def readable(error: BaseException, what: str) -> SailError:
    """The SailError inside an error of Ray; WorkerDied for every other error.

    Args:
        what: the method that was called, for the message.
    """
    if isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause  # as_instanceof_cause() would put Ray's traceback in place of the message
    if isinstance(error, SailError):
        return error
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return WorkerDied(
            f"{memory_kill(str(error))} Lower rollout.engine.kv_cache_gib or learner.max_tokens_per_microbatch"
        )
    if isinstance(error, ray.exceptions.RayActorError):
        # For an error in the constructor Ray's message is the whole traceback; the error is its last line.
        lines = str(error).strip().splitlines()
        return WorkerDied(f"it died during {what} ({lines[-1 if error.actor_init_failed else 0]})")
    return WorkerDied(f"it failed in {what}: {type(error).__name__}: {error}")
