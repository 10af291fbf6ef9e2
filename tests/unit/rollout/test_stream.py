"""Groups flow on while the learner learns: none is used past the bound, none is lost, none is used twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sailrl.config.schema import DynamicSampling
from sailrl.errors import RewardError
from sailrl.rollout.collect import Collection, NothingToLearn
from sailrl.rollout.engine import Request, Sampling
from sailrl.rollout.stream import StreamCollector
from sailrl.types import Completion, Group
from tests.fakes.scripted import prompts, score
from tests.unit.rollout.test_collect import Counting


class SlowPool:
    """Group ``i`` takes ``ticks[i % len(ticks)]`` turns of the event loop; its first token is sampled at once."""

    def __init__(self, ticks: Sequence[int], outcomes: str = "+-") -> None:
        self._ticks, self._outcomes = ticks, outcomes
        self.version = self.running = self.most_running = 0

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        (request,) = requests
        version = self.version
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for _ in range(self._ticks[request.token_ids[0] % len(self._ticks)]):
                await asyncio.sleep(0)
        finally:
            self.running -= 1
        yield request.index, [Completion([1], [-0.5], text, "stop", version) for text in self._outcomes]


class NeverDrops(StreamCollector):
    """The plausible mistake: trusting admission alone."""

    def _drop_stale(self, version: int) -> None:
        pass


def _stream(
    pool: Any,
    *,
    staleness: int = 1,
    score: Any = score,
    kind: Any = StreamCollector,
    **section: Any,
) -> Any:
    return kind(
        prompts(5000),
        Counting(),
        pool,
        score,
        sampling=Sampling(samples=2, temperature=1.0, max_tokens=4),
        settings=DynamicSampling(**section),
        accuracy="boxed",
        max_unscored_rate=0.1,
        seed=None,
        max_staleness=staleness,
    )


async def _learn(stream: Any, pool: SlowPool, episodes: int, wanted: int, ticks: int) -> list[tuple[int, Collection]]:
    """A run's loop: collects, takes ``ticks`` turns to learn, publishes. Returns version and collection."""
    done = []
    for version in range(episodes):
        done.append((version, await stream.collect(wanted, version)))
        for _ in range(ticks):
            await asyncio.sleep(0)
        pool.version = version + 1
    return done


def _ids(groups: Sequence[Group]) -> list[int]:
    return [group.prompt.token_ids[0] for group in groups]


def _age(group: Group, version: int) -> int:
    return version - min(rollout.completion.version for rollout in group.rollouts)


DURATIONS = st.lists(st.integers(0, 60), min_size=1, max_size=7)


@settings(deadline=None, max_examples=60)
@given(
    ticks=DURATIONS,
    learning=st.integers(0, 40),
    wanted=st.integers(1, 6),
    staleness=st.integers(1, 3),
)
def test_no_group_is_too_old_lost_or_used_twice(ticks: list[int], learning: int, wanted: int, staleness: int) -> None:
    pool = SlowPool(ticks)
    stream = _stream(pool, staleness=staleness)

    async def run() -> list[tuple[int, Collection]]:
        done = await _learn(stream, pool, 6, wanted, learning)
        state = stream.state_dict()
        out = [i for _, episode in done for i in _ids(episode.kept) + _ids([g for g, _ in episode.dropped])]
        assert sorted([*out, *state["backlog"]]) == list(range(state["source"]["next"]))  # each prompt once
        assert len(state["backlog"]) <= (staleness + 1) * wanted
        await stream.stop()
        return done

    for version, episode in asyncio.run(run()):
        assert len(episode.kept) == wanted
        assert _ids(episode.kept) == sorted(_ids(episode.kept))
        assert all(_age(group, version) <= staleness for group in episode.kept)
        assert all(_age(g, version) > staleness for g, reason in episode.dropped if reason == "stale")
    assert pool.most_running <= (staleness + 1) * wanted
    assert pool.running == 0


@pytest.mark.parametrize(("kind", "oldest"), [(StreamCollector, 1), (NeverDrops, 3)])
def test_a_straggler_past_the_bound_is_dropped_and_counted(kind: Any, oldest: int) -> None:
    """Prompt 0 takes 50 turns, the others none, learning 15: begun at version 0, it is done while version 3 learns."""
    pool = SlowPool([50] + [0] * 4999)
    stream = _stream(pool, kind=kind)
    done = asyncio.run(_learn(stream, pool, 6, 2, 15))
    assert max(_age(group, version) for version, episode in done for group in episode.kept) >= oldest
    dropped = [(group.prompt.token_ids[0], reason) for _, episode in done for group, reason in episode.dropped]
    assert dropped == ([(0, "stale")] if kind is StreamCollector else [])


def test_an_episode_does_not_wait_for_a_straggler_which_serves_the_next() -> None:
    """Prompt 0 takes 12 turns, the others 1."""
    pool = SlowPool([12] + [1] * 4999)
    (_, first), (_, second), *_ = asyncio.run(_learn(_stream(pool), pool, 3, 2, 15))
    assert 0 not in _ids(first.kept)
    assert _ids(second.kept)[0] == 0


def test_generation_goes_on_while_the_learner_learns_and_stops_at_the_bound() -> None:
    """Nothing is collected any more: with 1 version of slack there are groups for 1 more episode, with 2 for 2."""

    async def ahead(staleness: int) -> int:
        pool = SlowPool([1])
        stream = _stream(pool, staleness=staleness)
        await stream.collect(3, 0)
        for _ in range(200):
            await asyncio.sleep(0)
        return len(stream.state_dict()["backlog"])

    assert asyncio.run(ahead(1)) == 3
    assert asyncio.run(ahead(2)) == 6


def test_a_resumed_stream_draws_first_what_was_under_way() -> None:
    async def run() -> None:
        pool = SlowPool([3, 30])
        stream = _stream(pool)
        done = await _learn(stream, pool, 3, 2, 5)
        state = json.loads(json.dumps(stream.state_dict()))  # as a checkpoint keeps it
        await stream.stop()
        assert len(state["backlog"]) == 2  # one episode ahead
        pool = SlowPool([1])
        resumed = _stream(pool)
        resumed.load_state_dict(state)
        later = await _learn(resumed, pool, 3, 2, 5)
        assert _ids(later[0][1].kept) == state["backlog"]
        rest = resumed.state_dict()
        await resumed.stop()
        out = [i for _, episode in [*done, *later] for i in _ids([*episode.kept, *(g for g, _ in episode.dropped)])]
        assert sorted([*out, *rest["backlog"]]) == list(range(rest["source"]["next"]))

    asyncio.run(run())


def test_groups_that_teach_nothing_are_replaced_and_data_without_any_is_an_error() -> None:
    stream = _stream(SlowPool([2], outcomes="++"), max_waves=3)
    with pytest.raises(NothingToLearn, match=r"gave 0 of 4 groups .* all_correct"):
        asyncio.run(stream.collect(4, 0))


def test_what_was_sampled_and_not_handed_out_is_known_when_an_episode_fails() -> None:
    stream = _stream(SlowPool([2], outcomes="++"), max_waves=3)
    with pytest.raises(NothingToLearn):
        asyncio.run(stream.collect(4, 0))
    failed = stream.unfinished()
    assert len(failed) >= 12  # three times the four wanted
    assert {reason for _, reason in failed} == {"all_correct"}


def test_groups_that_were_handed_out_are_not_unfinished() -> None:
    async def run() -> None:
        pool, out = SlowPool([1, 3]), set()
        stream = _stream(pool)
        for version in range(3):
            pool.version = version
            episode = await stream.collect(2, version)
            out |= {id(group) for group in (*episode.kept, *(group for group, _ in episode.dropped))}
            left = stream.unfinished()
            assert not out & {id(group) for group, _ in left}
            assert {reason for _, reason in left} <= {"given_up"}  # they could teach, and wait for their turn
        await stream.stop()

    asyncio.run(run())


def test_a_judge_that_fails_everywhere_stops_the_run_before_the_waves_are_up() -> None:
    pool = SlowPool([0], outcomes="??")
    with pytest.raises(RewardError, match="responses could not be scored"):
        asyncio.run(_stream(pool, max_waves=10).collect(4, 0))


def test_a_failure_in_the_background_is_raised_by_the_next_collection() -> None:
    async def broken(prompt: Any, completion: Any) -> Any:
        if prompt.token_ids[0] >= 4:
            raise OSError("no space left")
        return await score(prompt, completion)

    async def run() -> None:
        stream = _stream(SlowPool([1]), score=broken)
        try:
            for version in range(4):
                await stream.collect(2, version)
                await asyncio.sleep(0.01)
        finally:
            await stream.stop()

    with pytest.raises(OSError, match="no space left"):
        asyncio.run(run())
