"""Collects episodes while the learner trains: generation never stops, staleness is bounded, no group is lost."""

from __future__ import annotations

import asyncio
from typing import Any

from sailrl.rollout.collect import Collection, Collector, NothingToLearn, admit, exhausted
from sailrl.types import Group


class StreamCollector(Collector):
    """A collector whose engines never wait for the learner.

    A prompt is started whenever ``(n + version + 1) * wanted`` is more than ``accepted + running`` (AReaL, arXiv
    2505.24298): with ``n = max_staleness`` versions of slack, no more groups are under way than the next ``n`` episodes
    need, or ``n + 1`` while an episode is being collected. The pool queues what its engines have no room for.

    An episode is full as soon as enough groups were kept; a slow group does not delay it, and counts for a later one.
    Groups are returned in the order in which their prompts were drawn. A group with a first token older than ``n``
    versions when its turn comes is dropped (``stale``).

    Args:
        max_staleness: n, at least 1.
    """

    def __init__(self, *args: Any, max_staleness: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_staleness = max_staleness
        self._drawn: dict[int, int] = {}  # ticket -> prompt, until its group is returned
        self._tickets = 0
        self._running: dict[int, asyncio.Task[None]] = {}
        self._accepted: dict[int, Group] = {}
        self._rejected: dict[int, tuple[Group, str]] = {}
        self._room = 0  # groups that may be running or accepted

    async def collect(self, wanted: int, version: int) -> Collection:
        """See Collector.collect. Afterwards generation continues, for the next ``max_staleness`` episodes."""
        done = Collection()
        self._room = (self._max_staleness + 1) * wanted
        while True:
            self._drop_stale(version)
            self._start()
            for ticket in sorted(self._rejected):
                del self._drawn[ticket]
                done.dropped.append(self._rejected.pop(ticket))
            full = len(self._accepted) >= wanted
            if full or len(done.dropped) >= wanted:
                self._check_unscored(done.dropped, self._accepted.values())
            if full:
                break
            no_signal = sum(reason != "stale" for _, reason in done.dropped)
            if no_signal >= wanted * self._settings.max_waves:
                raise NothingToLearn(exhausted(done, len(self._accepted), wanted, self._settings.max_waves))
            finished, _ = await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()  # raises the task's error
        for ticket in sorted(self._accepted)[:wanted]:
            del self._drawn[ticket]
            done.kept.append(self._accepted.pop(ticket))
        self._room = self._max_staleness * wanted
        returned = {id(group) for group in (*done.kept, *(group for group, _ in done.dropped))}
        self._sampled = [group for group in self._sampled if id(group) not in returned]
        return done

    async def stop(self) -> None:
        """Cancels what is running; a checkpoint taken before has its prompts."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def state_dict(self) -> dict[str, Any]:
        """As Collector's. Prompts that were drawn, but not returned as groups yet, are drawn first after a resume."""
        state = super().state_dict()
        return {**state, "backlog": [*(self._drawn[ticket] for ticket in sorted(self._drawn)), *state["backlog"]]}

    def _start(self) -> None:
        """Starts as many prompts as there is room for."""
        for index in self._draw(max(0, self._room - len(self._running) - len(self._accepted))):
            self._tickets += 1
            self._drawn[self._tickets] = index
            self._running[self._tickets] = asyncio.ensure_future(self._run(self._tickets, index))

    async def _run(self, ticket: int, index: int) -> None:
        """Samples and judges one group. ``collect``, which waits for this task, raises its error."""
        (group,) = await self.sample([self._prompts[index]], self._sampling, None)
        self._sampled.append(group)
        verdict = admit(group, self._accuracy, self._settings)
        if verdict.keep:
            self._accepted[ticket] = group
        else:
            self._rejected[ticket] = (group, verdict.reason)
        del self._running[ticket]
        self._start()

    def _drop_stale(self, version: int) -> None:
        for ticket, group in list(self._accepted.items()):
            if version - min(r.completion.version for r in group.rollouts) > self._max_staleness:
                self._rejected[ticket] = (self._accepted.pop(ticket), "stale")
