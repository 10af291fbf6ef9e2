"""Several rollout workers as one engine: sends requests to them, streams results back, and loses none when one dies.

``WorkerPool`` does so for any kind of worker, and ``RolloutPool`` for workers in Ray actors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Generic

import ray

from sailrl.errors import RolloutError, WorkerDied
from sailrl.rollout.engine import Engine, Request, Sampling, Stage
from sailrl.rollout.supervisor import Result, Supervisor, Verify, W, deadline, logprobs_request
from sailrl.rollout.worker import RemoteWorker, readable
from sailrl.types import Prompt

SETTING = "rollout.timeout_s"


class WorkerPool(Generic[W]):
    """The workers of a supervisor as one engine (see ``engine.Pool``).

    A group whose worker dies goes to another worker. A dead worker's part of a seeded wave waits for its replacement,
    which samples it again with the same seed, so that the result is the same bit for bit.

    Args:
        timeout_s: deadline in seconds of one group, of a worker's part of a seeded wave, and of ``prompt_logprobs``.
    """

    def __init__(self, supervisor: Supervisor[W], *, timeout_s: float) -> None:
        self._supervisor, self._timeout_s = supervisor, timeout_s

    async def start(self) -> None:
        """Waits until every engine is ready. Raises RolloutError, with the engine's own message, when one fails."""
        await self._supervisor.start()

    def verify_replacements(self, verify: Verify) -> None:
        """From now on a replacement must pass ``verify`` before it gets work."""
        self._supervisor.verify = verify

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None
    ) -> AsyncIterator[Result]:
        """Yields ``(index, completions)`` once for every request, in the order in which they finish.

        With a seed, worker ``n`` of ``N`` gets requests ``n, n + N, ...`` as one repeatable wave with seed
        ``seed + n``. Without, each group goes to the least busy worker as soon as one has room.

        Raises:
            RolloutError: a worker died and may not be replaced (again).
        """
        results: asyncio.Queue[Result | BaseException | None] = asyncio.Queue()
        if seed is None:
            work = [self._group(request, sampling, results) for request in requests]
        else:
            count = len(self._supervisor.states)
            parts = [(number, requests[number::count]) for number in range(count)]
            work = [self._wave(n, part, sampling, seed + n, results) for n, part in parts if part]
        tasks = [asyncio.ensure_future(coroutine) for coroutine in work]

        def end(finished: asyncio.Future[Any]) -> None:
            results.put_nowait(None if finished.cancelled() else finished.exception())

        asyncio.gather(*tasks).add_done_callback(end)
        try:
            while (item := await results.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            for task in tasks:
                task.cancel()

    async def prompt_logprobs(self, prompt: Prompt) -> list[list[float]]:
        """[workers][P-1] log-probabilities in nats of the prompt's own tokens, from every ready engine, at least one.

        Raises:
            RolloutError: a worker died and may not be replaced (again).
        """
        request, answers = logprobs_request(prompt), list[list[float]]()
        while not answers:
            await self._supervisor.wait_for_any()
            answers = await self._supervisor.call_all(
                "prompt_logprobs", self._timeout_s, lambda worker: worker.prompt_logprobs(request)
            )
        return answers

    async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
        """Every engine loads the weights in ``folder``, and so will replacements; see ``Supervisor.set_weights``."""
        self._supervisor.set_weights(folder, version)
        await self._supervisor.call_all("load_weights", timeout_s, lambda worker: worker.load_weights(folder, version))

    async def freeze(self, *, timeout_s: float) -> None:
        """Every engine stops computing, keeps its requests and drops its caches."""
        self._supervisor.replaceable = False
        await self._supervisor.call_all("freeze", timeout_s, lambda worker: worker.freeze())

    async def thaw(self, version: int, *, timeout_s: float) -> None:
        """Every engine continues with the weights it has now, as ``version``."""
        await self._supervisor.call_all("thaw", timeout_s, lambda worker: worker.thaw(version))

    async def sleep(self) -> bool:
        """Every engine frees its GPU for the learner; False when the engines cannot."""
        asleep = all(await self._supervisor.call_all("sleep", self._timeout_s, lambda worker: worker.sleep()))
        self._supervisor.replaceable = self._supervisor.replaceable and not asleep
        return asleep

    async def wake(self, stage: Stage) -> None:
        """Every engine takes the memory of one stage back."""
        await self._supervisor.call_all("wake", self._timeout_s, lambda worker: worker.wake(stage))

    def resize(self, count: int) -> None:
        """Changes the number of workers; see ``Supervisor.resize``."""
        self._supervisor.resize(count)

    def metrics(self) -> dict[str, float]:
        """``workers/alive``: ready now; ``workers/restarts``: replaced since the start."""
        alive = sum(state.ready for state in self._supervisor.states)
        return {"workers/alive": float(alive), "workers/restarts": float(self._supervisor.restarts)}

    def workers(self) -> list[W]:
        """All workers, in the order of their numbers."""
        return [state.worker for state in self._supervisor.states]

    async def stop(self) -> None:
        """Ends all engines and their processes."""
        await self._supervisor.stop()

    async def _group(self, request: Request, sampling: Sampling, results: asyncio.Queue[Any]) -> None:
        """Samples one group, on one worker after another until one finishes it."""
        finished = False
        while not finished:
            state = await self._supervisor.acquire(sampling.samples)
            try:
                async with deadline("a group", self._timeout_s, SETTING):
                    async for result in state.worker.generate([request], sampling, seed=None):
                        results.put_nowait(result)
                        finished = True
            except WorkerDied as death:
                self._supervisor.report_death(state, death)
            finally:
                self._supervisor.release(state, sampling.samples)

    async def _wave(
        self, number: int, requests: Sequence[Request], sampling: Sampling, seed: int, results: asyncio.Queue[Any]
    ) -> None:
        """Samples one worker's part of a seeded wave. A replacement samples all of it; no result is yielded twice."""
        finished: set[int] = set()
        while len(finished) < len(requests):
            state = await self._supervisor.wait_for(number)
            try:
                async with deadline("its share of a wave", self._timeout_s, SETTING):
                    async for index, completions in state.worker.generate(requests, sampling, seed=seed):
                        if index not in finished:
                            finished.add(index)
                            results.put_nowait((index, completions))
            except WorkerDied as death:
                self._supervisor.report_death(state, death)


class RolloutPool(WorkerPool[RemoteWorker]):
    """A pool of workers in Ray actors.

    Args:
        build: makes one engine; runs in the worker's process.
        timeout_s: see ``WorkerPool``.
        actor_options: Ray's options for each worker (GPUs, scheduling); None for workers without an accelerator.
        settings: passed on to ``Supervisor``.
    """

    def __init__(
        self,
        build: Callable[[], Engine],
        *,
        workers: int,
        timeout_s: float,
        actor_options: Sequence[Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        options = actor_options or [{}] * workers
        # Workers that are added later get as many GPUs, on any machine.
        added = {key: value for key, value in options[0].items() if key == "num_gpus"}

        def make_worker(number: int) -> RemoteWorker:
            return RemoteWorker(build, options[number] if number < len(options) else added)

        super().__init__(Supervisor(make_worker, workers=workers, **settings), timeout_s=timeout_s)

    def engine_calls(self) -> EngineCalls:
        """A way to call the engines from another process."""
        return EngineCalls([worker.actor for worker in self.workers()])


class EngineCalls:
    """Calls steps of a weight update on every worker, from the learner's process. Blocks; can be pickled by Ray."""

    def __init__(self, workers: Sequence[Any]) -> None:
        self._workers = list(workers)

    def __call__(self, step: str, payloads: Sequence[Any], timeout_s: float) -> None:
        """Calls ``step`` with each worker's payload and waits for all.

        Raises:
            WorkerDied: a worker died; the message has its number.
            RolloutError: a worker failed, or was not done within ``timeout_s`` seconds.
        """
        calls = [worker.transfer.remote(step, payload) for worker, payload in zip(self._workers, payloads, strict=True)]
        done, late = ray.wait(calls, num_returns=len(calls), timeout=timeout_s)
        for call in done:  # a worker that failed is the reason why others are late: report it first
            try:
                ray.get(call)
            except Exception as error:
                reason = readable(error, step)
                if isinstance(reason, WorkerDied):
                    raise WorkerDied(f"rollout worker {calls.index(call)} is lost: {reason}") from error
                raise reason from error
        if late:
            names = ", ".join(str(calls.index(call)) for call in late)
            raise RolloutError(
                f"rollout worker {names} did not finish {step} within {timeout_s:g} s (sync.timeout_s). "
                "Run the same command to resume."
            )
