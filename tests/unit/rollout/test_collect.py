"""Collecting an episode: prompts are drawn until it is full of groups that can teach; nothing is lost on the way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sailrl.config.schema import DynamicSampling
from sailrl.data.sampler import ShufflingSampler
from sailrl.errors import DataError, RewardError
from sailrl.rollout.collect import Collection, Collector, NothingToLearn, admit, wave_seed
from sailrl.rollout.engine import Sampling
from sailrl.types import Completion, Group, Rollout, Score
from tests.fakes.scripted import Script, ScriptedPool, prompts, score


class Counting:
    """Draws 0, 1, 2, ..."""

    def __init__(self) -> None:
        self.next = 0

    def take(self, count: int) -> list[int]:
        self.next += count
        return list(range(self.next - count, self.next))

    def state_dict(self) -> dict[str, Any]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.next = state["next"]


def _collector(
    script: Script,
    *,
    samples: int = 2,
    source: Any = None,
    seed: int | None = 0,
    max_unscored_rate: float = 0.1,
    **settings: Any,
) -> tuple[Collector, ScriptedPool]:
    pool = ScriptedPool(script)
    collector = Collector(
        prompts(200),
        source or Counting(),
        pool,
        score,
        sampling=Sampling(samples=samples, temperature=1.0, max_tokens=4),
        settings=DynamicSampling(**settings),
        accuracy="boxed",
        max_unscored_rate=max_unscored_rate,
        seed=seed,
    )
    return collector, pool


def _collect(collector: Collector, wanted: int, version: int = 0) -> Collection:
    return asyncio.run(collector.collect(wanted, version))


def _ids(groups: list[Group]) -> list[int]:
    return [group.prompt.token_ids[0] for group in groups]


def _dropped(done: Collection) -> dict[int, str]:
    return {group.prompt.token_ids[0]: reason for group, reason in done.dropped}


def test_a_full_first_wave_is_the_episode_in_the_order_of_drawing() -> None:
    collector, pool = _collector(lambda *_: "+-")
    done = _collect(collector, 3)
    assert _ids(done.kept) == [0, 1, 2]
    assert (done.dropped, done.waves, pool.waves) == ([], 1, [[0, 1, 2]])


def test_groups_that_teach_nothing_are_replaced_exactly() -> None:
    collector, pool = _collector(lambda i, _: "++" if i == 0 else "--" if i == 2 else "hh" if i == 4 else "+-")
    done = _collect(collector, 4)
    assert _ids(done.kept) == [1, 3, 5, 6]
    assert _dropped(done) == {0: "all_correct", 2: "all_wrong", 4: "all_equal", 7: "surplus"}
    # Wave 1: 0 to 3, two kept. The rate is 2 of 4, so two more take 2 / 0.5 = 4.
    assert pool.waves == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_refill_never_asks_for_more_than_an_episode() -> None:
    """One of 8 kept so far: 7 more at that rate would be 56 prompts."""
    collector, pool = _collector(lambda i, _: "+-" if i % 8 == 0 else "--", max_waves=100)
    _collect(collector, 8)
    assert max(len(wave) for wave in pool.waves) == 8


def test_oversampling_applies_to_the_first_wave() -> None:
    collector, pool = _collector(lambda i, _: "--" if i < 4 else "+-", oversample=1.5)
    done = _collect(collector, 4)
    assert [len(wave) for wave in pool.waves] == [6, 4]  # 4 x 1.5; then 2 missing at a rate of 2 / 6 is 6, at most 4
    assert _ids(done.kept) == [4, 5, 6, 7]
    assert set(_dropped(done).values()) == {"all_wrong", "surplus"}


def test_what_was_one_too_many_comes_first_next_time() -> None:
    collector, pool = _collector(lambda *_: "+-", oversample=2.0)
    assert _ids(_collect(collector, 2).kept) == [0, 1]
    assert _ids(_collect(collector, 2).kept) == [2, 3]
    assert pool.waves == [[0, 1, 2, 3], [2, 3, 4, 5]]


def test_without_dynamic_sampling_every_scored_group_is_kept() -> None:
    collector, pool = _collector(lambda i, _: "++" if i % 2 else "--", enabled=False, oversample=3.0)
    done = _collect(collector, 4)
    assert _ids(done.kept) == [0, 1, 2, 3]
    assert pool.waves == [[0, 1, 2, 3]]  # nothing to replace, so nothing to oversample for


def test_reasons_become_metrics() -> None:
    collector, _ = _collector(lambda i, _: "++" if i < 2 else "+-")
    metrics = _collect(collector, 4).metrics()
    # 0 and 1 are dropped; 2 and 3 stay; two more at a rate of 2 / 4 are asked for four times over
    assert metrics == {
        "groups/kept": 4.0,
        "groups/dropped": 4.0,
        "groups/waves": 2.0,
        "groups/dropped_all_correct": 2.0,
        "groups/dropped_surplus": 2.0,
    }


def test_data_with_nothing_to_teach_is_an_error_with_counts() -> None:
    collector, pool = _collector(lambda i, _: "++" if i % 3 == 0 else "--", max_waves=3)
    with pytest.raises(NothingToLearn, match=r"6 all_wrong, 3 all_correct") as caught:
        _collect(collector, 3)
    assert len(pool.waves) == 3
    assert isinstance(caught.value, DataError)  # so the command line prints it and exits with 2


def test_a_group_never_learns_from_what_could_not_be_scored() -> None:
    collector, _ = _collector(lambda *_: "+-?", samples=3, max_unscored_rate=0.5)
    group = _collect(collector, 1).kept[0]
    assert [rollout.reward for rollout in group.rollouts] == [1.0, 0.0, None]


def test_a_group_with_fewer_than_two_scores_is_replaced() -> None:
    collector, _ = _collector(lambda i, _: "+??" if i == 0 else "+-+", samples=3, max_unscored_rate=0.9)
    done = _collect(collector, 1)
    assert _ids(done.kept) == [1]
    assert _dropped(done) == {0: "unscored"}


@pytest.mark.parametrize(("rate", "stops"), [(0.25, False), (0.24, True)])
def test_too_many_unscored_responses_stop_the_run(rate: float, stops: bool) -> None:
    """One of four responses in every group cannot be scored."""
    collector, _ = _collector(lambda *_: "+-+?", samples=4, max_unscored_rate=rate)
    if not stops:
        assert len(_collect(collector, 2).kept) == 2
        return
    with pytest.raises(RewardError, match=r"2 of 8 responses could not be scored \(2 x deadline\).*0\.24"):
        _collect(collector, 2)


def test_a_judge_that_fails_everywhere_stops_the_first_wave() -> None:
    """Not after ten waves of groups without scores, and not as 'nothing to learn'."""
    collector, pool = _collector(lambda *_: "??")
    with pytest.raises(RewardError, match="8 of 8 responses"):
        _collect(collector, 4)
    assert len(pool.waves) == 1


def test_every_wave_of_every_version_has_its_own_seed() -> None:
    collector, pool = _collector(lambda i, asked: "+-" if i % 2 else "--")
    _collect(collector, 4, version=0)
    _collect(collector, 4, version=1)
    assert None not in pool.seeds
    assert len(set(pool.seeds)) == len(pool.seeds) >= 4


def test_without_determinism_waves_have_no_seed() -> None:
    collector, pool = _collector(lambda *_: "+-", seed=None)
    _collect(collector, 2)
    assert pool.seeds == [None]


def test_seeds_differ_by_purpose_version_wave_and_run_and_never_change() -> None:
    seeds = {
        wave_seed(seed, purpose, version, wave)
        for seed in range(3)
        for purpose in ("train", "eval")
        for version in range(20)
        for wave in range(20)
    }
    assert len(seeds) == 3 * 2 * 20 * 20
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert wave_seed(0, "train", 1, 2) == 495595348  # the CRC-32 of "0/train/1/2", without its top bit


def test_a_resumed_collector_collects_the_same_episodes() -> None:
    def script(i: int, _: int) -> str:
        return "+-" if i % 3 else "--"

    def fresh() -> Collector:
        return _collector(script, source=ShufflingSampler(20, seed=1), oversample=2.0)[0]

    whole = fresh()
    episodes = [_ids(_collect(whole, 3, version).kept) for version in range(6)]
    first = fresh()
    for version in range(3):
        _collect(first, 3, version)
    state = json.loads(json.dumps(first.state_dict()))  # as a checkpoint keeps it
    resumed = fresh()
    resumed.load_state_dict(state)
    assert [_ids(_collect(resumed, 3, version).kept) for version in range(3, 6)] == episodes[3:]

    forgetful = fresh()
    forgetful.load_state_dict({**state, "backlog": []})
    assert [_ids(_collect(forgetful, 3, version).kept) for version in range(3, 6)] != episodes[3:]


def _group(*outcomes: tuple[float | None, float | None]) -> Group:
    """A group of (accuracy, reward) pairs."""
    rollouts = []
    for accuracy, reward in outcomes:
        one = Score(accuracy) if accuracy is not None else Score(None, "failed", "judge")
        rollouts.append(Rollout(Completion([1], [0.0], "", "stop", 0), {"boxed": one}, reward))
    return Group(prompts(1)[0], rollouts)


@pytest.mark.parametrize(
    ("outcomes", "keep", "reason"),
    [
        ([(1.0, 1.0), (0.0, 0.1)], True, "kept"),
        ([(1.0, 1.0), (1.0, 0.9)], False, "all_correct"),  # the rewards differ, the accuracy does not
        ([(0.0, 0.1), (0.0, 0.0)], False, "all_wrong"),
        ([(0.5, 0.5), (0.5, 0.4)], False, "all_equal"),
        ([(1.0, 1.0), (1.0 - 1e-9, 1.0)], False, "all_correct"),  # crumbs of a float are no difference
        ([(1.0, 1.0), (None, None)], False, "unscored"),
        ([(1.0, 1.0), (0.0, None), (1.0, 1.0)], False, "all_correct"),  # the wrong one has no reward and leaves
        ([(1.0, 1.0), (0.0, 0.0), (None, None)], True, "kept"),
    ],
)
def test_a_group_teaches_when_its_accuracies_differ(
    outcomes: list[tuple[float | None, float | None]], keep: bool, reason: str
) -> None:
    verdict = admit(_group(*outcomes), "boxed", DynamicSampling())
    assert (verdict.keep, verdict.reason) == (keep, reason)


def test_without_dynamic_sampling_equal_groups_stay_and_unscored_ones_still_go() -> None:
    off = DynamicSampling(enabled=False)
    assert admit(_group((1.0, 1.0), (1.0, 1.0)), "boxed", off).keep
    assert admit(_group((1.0, 1.0), (None, None)), "boxed", off).reason == "unscored"
