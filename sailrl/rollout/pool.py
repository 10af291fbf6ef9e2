"""All rollout workers as one engine: prompts are dealt out, results stream back, late and dead workers are named."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import ray
import ray.exceptions

from sailrl.errors import RolloutError, SailError
from sailrl.rollout.engine import Engine, Request, Sampling, Stage
from sailrl.rollout.worker import RolloutWorker
from sailrl.types import Completion, Prompt

_END: Any = object()
CONCURRENT_CALLS = 1024  # coroutines one worker may have open: one per prompt in flight, and control calls


class RolloutPool:
    """N rollout workers.

    Args:
        build: makes one engine; runs in the worker's process.
        workers: how many.
        in_flight: responses that one worker samples at the same time.
        timeout_s: deadline of one wave of generation, and of one publish.
        start_timeout_s: deadline for all engines to be ready.
        places: Ray's options for each worker (GPUs, where it runs); None for a worker without an accelerator.
    """

    def __init__(
        self,
        build: Callable[[], Engine],
        *,
        workers: int,
        in_flight: int,
        timeout_s: float,
        start_timeout_s: float,
        places: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self._in_flight, self._timeout_s, self._start_timeout_s = in_flight, timeout_s, start_timeout_s
        actor: Any = RolloutWorker  # ray.remote adds methods that type checkers do not see
        self._workers = [
            actor.options(num_cpus=0, max_concurrency=CONCURRENT_CALLS, **place).remote(build)
            for place in (places or [{}] * workers)
        ]
        # Engines load while the caller builds everything else.
        self._starting = {id(worker): worker.start.remote() for worker in self._workers}

    async def start(self) -> None:
        """Waits until every engine is ready. Raises RolloutError with the engine's own words when one is not."""
        await self._all("start", self._start_timeout_s, lambda worker: self._starting[id(worker)])

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        """Yields ``(index, completions)`` as prompts finish, from whichever worker.

        With a seed the requests are dealt out in a fixed order, each worker's share as one repeatable wave; without,
        a worker gets its next prompt whenever one of its own is done, so that the least loaded works most.
        """
        results: asyncio.Queue[Any] = asyncio.Queue()
        if seed is not None:
            count = len(self._workers)
            feeds = [
                self._drain(rank, requests[rank::count], sampling, seed + rank, results)
                for rank in range(count)
                if requests[rank::count]
            ]
        else:
            waiting = deque(requests)
            slots = max(1, self._in_flight // sampling.samples)
            slots = min(slots, -(-len(requests) // len(self._workers)))
            feeds = [
                self._pull(rank, waiting, sampling, results) for rank in range(len(self._workers)) for _ in range(slots)
            ]
        tasks = [asyncio.ensure_future(feed) for feed in feeds]
        finisher = asyncio.ensure_future(self._finish(tasks, results))
        late = asyncio.get_running_loop().time() + self._timeout_s
        try:
            while True:
                left = late - asyncio.get_running_loop().time()
                try:
                    item = await asyncio.wait_for(results.get(), timeout=max(left, 0.001))
                except TimeoutError:
                    busy = ", ".join(str(i) for i, task in enumerate(tasks) if not task.done())
                    raise RolloutError(
                        f"rollout feed {busy} did not finish its wave in {self._timeout_s:g} s (rollout.timeout_s). "
                        "Run the same command to resume, with a longer deadline if generation is just slow."
                    ) from None
                if item is _END:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            for task in [*tasks, finisher]:
                task.cancel()

    async def prompt_logprobs(self, prompt: Prompt) -> list[list[float]]:
        """[workers][P-1] log-probabilities of the prompt's own tokens, from every engine."""
        request = Request(0, prompt.engine_ids, prompt.images, len(prompt.token_ids))
        return await self._all(
            "prompt_logprobs", self._timeout_s, lambda worker: worker.prompt_logprobs.remote(request)
        )

    async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
        """Every engine takes the weights in ``folder``."""
        await self._all("load_weights", timeout_s, lambda worker: worker.load_weights.remote(folder, version))

    async def freeze(self, *, timeout_s: float) -> None:
        """Every engine stops computing, keeps its requests and drops its caches."""
        await self._all("freeze", timeout_s, lambda worker: worker.freeze.remote())

    async def thaw(self, version: int, *, timeout_s: float) -> None:
        """Every engine goes on with the weights it has now, as ``version``."""
        await self._all("thaw", timeout_s, lambda worker: worker.thaw.remote(version))

    async def sleep(self) -> bool:
        """Every engine lends its GPU to the learner; False when they cannot."""
        return all(await self._all("sleep", self._timeout_s, lambda worker: worker.sleep.remote()))

    async def wake(self, stage: Stage) -> None:
        """Every engine takes memory back."""
        await self._all("wake", self._timeout_s, lambda worker: worker.wake.remote(stage))

    def engine_calls(self) -> EngineCalls:
        """A way to call the engines from another process."""
        return EngineCalls(self._workers)

    async def stop(self) -> None:
        """Ends all engines and their processes."""
        for worker in self._workers:
            try:
                await asyncio.wait_for(_value(worker.stop.remote()), timeout=10)
            except (Exception, asyncio.CancelledError):  # it is going away in any case
                continue
        for worker in self._workers:
            ray.kill(worker)

    async def _drain(
        self, rank: int, share: Sequence[Request], sampling: Sampling, seed: int | None, results: asyncio.Queue[Any]
    ) -> None:
        stream = self._workers[rank].generate.options(num_returns="streaming").remote(list(share), sampling, seed)
        async for item in stream:
            results.put_nowait(await item)

    async def _pull(self, rank: int, waiting: deque[Request], sampling: Sampling, results: asyncio.Queue[Any]) -> None:
        while waiting:
            await self._drain(rank, [waiting.popleft()], sampling, None, results)

    async def _finish(self, tasks: list[asyncio.Task[None]], results: asyncio.Queue[Any]) -> None:
        """Ends the stream when all feeds are done, or at the first failure."""
        try:
            await asyncio.gather(*tasks)
            results.put_nowait(_END)
        except Exception as error:
            results.put_nowait(_readable(error, "generate"))

    async def _all(self, what: str, timeout_s: float, call: Callable[[Any], Any]) -> list[Any]:
        calls = [asyncio.ensure_future(_value(call(worker))) for worker in self._workers]
        try:
            return await asyncio.wait_for(asyncio.gather(*calls), timeout=timeout_s)
        except TimeoutError:
            raise _late([i for i, call in enumerate(calls) if call.cancelled()], what, timeout_s) from None
        except Exception as error:
            raise _readable(error, what) from error


class EngineCalls:
    """Calls steps of a weight update on every worker, from the learner's process. Blocks; travels between processes."""

    def __init__(self, workers: Sequence[Any]) -> None:
        self._workers = list(workers)

    def __call__(self, step: str, payloads: Sequence[Any], timeout_s: float) -> None:
        """Calls ``step`` with each worker's payload and waits for all.

        Raises:
            RolloutError: a worker failed, or was not done in time; it is named.
        """
        calls = [worker.transfer.remote(step, payload) for worker, payload in zip(self._workers, payloads, strict=True)]
        done, late = ray.wait(calls, num_returns=len(calls), timeout=timeout_s)
        for call in done:  # a worker that failed is the reason why others are late: report it first
            try:
                ray.get(call)
            except Exception as error:
                raise _readable(error, f"{step} (rollout worker {calls.index(call)})") from error
        if late:
            raise _late([calls.index(call) for call in late], step, timeout_s)


async def _value(ref: Any) -> Any:
    return await ref


def _late(workers: Sequence[int], what: str, timeout_s: float) -> RolloutError:
    names = ", ".join(map(str, workers))
    return RolloutError(f"rollout worker {names} did not finish {what} within {timeout_s:g} s. Run again to resume.")


def _readable(error: BaseException, what: str) -> BaseException:
    """Our own error, whatever Ray wrapped around it."""
    if isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause  # as_instanceof_cause() would put Ray's traceback in place of the message
    if isinstance(error, SailError):
        return error
    if isinstance(error, ray.exceptions.RayActorError):
        return RolloutError(
            f"a rollout worker died during {what} ({str(error).splitlines()[0]}). "
            "Run the same command to resume from the last checkpoint."
        )
    return RolloutError(f"a rollout worker failed in {what}: {type(error).__name__}: {error}")
