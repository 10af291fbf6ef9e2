"""Rollout workers as one engine: prompts are dealt out, results stream back, and nothing a dead worker had is lost.

Nothing here knows Ray; unit tests run it with scripted workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Generic

from sailrl.errors import WorkerDied
from sailrl.rollout.engine import Request, Sampling, Stage
from sailrl.rollout.member import Prove, Result, W, deadline, whole
from sailrl.rollout.roster import Roster
from sailrl.types import Prompt

SETTING = "rollout.timeout_s"


class Crew(Generic[W]):
    """The workers of a roster, as one engine for whoever asks.

    A group whose worker dies goes to another one; a dead worker's share of a seeded wave waits for the replacement,
    which replays it with the same seed, so that the result is the same bit for bit. ``Roster`` says who is replaced.

    Args:
        timeout_s: deadline of one group, of a worker's share of a seeded wave, and of the probe's question.
    """

    def __init__(self, roster: Roster[W], *, timeout_s: float) -> None:
        self._roster, self._timeout_s = roster, timeout_s

    async def start(self) -> None:
        """Waits until every engine is ready. Raises RolloutError with the engine's own words when one is not."""
        await self._roster.start()

    def prove_with(self, prove: Prove) -> None:
        """From now on a replacement must pass ``prove`` before it gets work."""
        self._roster.prove = prove

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None
    ) -> AsyncIterator[Result]:
        """Yields ``(index, completions)`` once for every request, as they finish, from whichever worker.

        With a seed the requests are dealt out in a fixed order, each worker's share as one repeatable wave; without,
        a group goes to the least busy worker as soon as one has room.

        Raises:
            RolloutError: a worker died too often.
        """
        results: asyncio.Queue[Result | BaseException | None] = asyncio.Queue()
        if seed is None:
            jobs = [self._group(request, sampling, results) for request in requests]
        else:
            count = len(self._roster.members)
            shares = [(number, requests[number::count]) for number in range(count)]
            jobs = [self._share(n, share, sampling, seed + n, results) for n, share in shares if share]
        tasks = [asyncio.ensure_future(job) for job in jobs]

        def end(work: asyncio.Future[Any]) -> None:
            results.put_nowait(None if work.cancelled() else work.exception())

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
        """[workers][P-1] log-probabilities of the prompt's own tokens, from every engine at work: one at least."""
        request, answers = whole(prompt), list[list[float]]()
        while not answers:
            await self._roster.somebody()
            answers = await self._roster.all("prompt_logprobs", self._timeout_s, lambda w: w.prompt_logprobs(request))
        return answers

    async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
        """Every engine takes the weights in ``folder``; see ``Roster.published``."""
        self._roster.published(folder, version)
        await self._roster.all("load_weights", timeout_s, lambda worker: worker.load_weights(folder, version))

    async def freeze(self, *, timeout_s: float) -> None:
        """Every engine stops computing, keeps its requests and drops its caches."""
        self._roster.replaceable = False
        await self._roster.all("freeze", timeout_s, lambda worker: worker.freeze())

    async def thaw(self, version: int, *, timeout_s: float) -> None:
        """Every engine goes on with the weights it has now, as ``version``."""
        await self._roster.all("thaw", timeout_s, lambda worker: worker.thaw(version))

    async def sleep(self) -> bool:
        """Every engine lends its GPU to the learner; False when they cannot."""
        asleep = all(await self._roster.all("sleep", self._timeout_s, lambda worker: worker.sleep()))
        self._roster.replaceable = self._roster.replaceable and not asleep
        return asleep

    async def wake(self, stage: Stage) -> None:
        """Every engine takes memory back."""
        await self._roster.all("wake", self._timeout_s, lambda worker: worker.wake(stage))

    def resize(self, count: int) -> None:
        """From now on ``count`` workers. New ones join when they are ready; leaving ones finish what they have."""
        self._roster.resize(count)

    def metrics(self) -> dict[str, float]:
        """``workers/alive``: at work now; ``workers/restarts``: replaced since the start."""
        alive = sum(member.ready for member in self._roster.members)
        return {"workers/alive": float(alive), "workers/restarts": float(self._roster.restarts)}

    def workers(self) -> list[W]:
        """All, in the order of their numbers."""
        return [member.worker for member in self._roster.members]

    async def stop(self) -> None:
        """Ends all engines and their processes."""
        await self._roster.stop()

    async def _group(self, request: Request, sampling: Sampling, results: asyncio.Queue[Any]) -> None:
        """One group, on whoever has room, until somebody has finished it."""
        told = False
        while not told:
            member = await self._roster.free(sampling.samples)
            try:
                async with deadline("a group", self._timeout_s, SETTING):
                    async for result in member.worker.generate([request], sampling, seed=None):
                        results.put_nowait(result)
                        told = True
            except WorkerDied as death:
                self._roster.bury(member, death)
            finally:
                self._roster.give_back(member, sampling.samples)

    async def _share(
        self, number: int, requests: Sequence[Request], sampling: Sampling, seed: int, results: asyncio.Queue[Any]
    ) -> None:
        """A worker's share of a seeded wave; a replacement replays all of it, and says nothing twice."""
        finished: set[int] = set()
        while len(finished) < len(requests):
            member = await self._roster.at(number)
            try:
                async with deadline("its share of a wave", self._timeout_s, SETTING):
                    async for index, completions in member.worker.generate(requests, sampling, seed=seed):
                        if index not in finished:
                            finished.add(index)
                            results.put_nowait((index, completions))
            except WorkerDied as death:
                self._roster.bury(member, death)
