"""The audit of the soak benchmark sees what it is there to see, and its judge is one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.soak import GROUP, PROBLEMS, ROLLOUTS, UPDATES, answer, audit
from rewards.judge import Judge
from sailrl.types import Problem, Score
from tests.fakes.judge_server import judge_server

EPISODES = 40
GROUPS = ROLLOUTS // GROUP  # 8 an episode, 320 in all: each of 256 problems once or twice


def logs() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rollouts = [
        {"episode": e, "group": g, "rollout": r, "id": ((e - 1) * GROUPS + g) % PROBLEMS}
        for e in range(1, EPISODES + 1)
        for g in range(GROUPS)
        for r in range(GROUP)
    ]
    return rollouts, [{"step": step, "reward/mean": 0.0} for step in range(1, EPISODES * UPDATES + 1)]


def test_a_whole_run_passes() -> None:
    assert audit(*logs()) == []


def test_a_young_run_passes() -> None:
    rollouts, metrics = logs()
    assert audit([row for row in rollouts if row["episode"] <= 3], metrics[: 3 * UPDATES]) == []


@pytest.mark.parametrize("number", [0, 700, -1])
def test_a_lost_rollout_is_seen(number: int) -> None:
    rollouts, metrics = logs()
    del rollouts[number]
    assert any("lacks group" in text for text in audit(rollouts, metrics))


def test_a_rollout_that_is_there_twice_is_seen() -> None:
    rollouts, metrics = logs()
    assert audit([*rollouts, rollouts[5]], metrics) == ["episode 1, group 0, rollout 5 is there 2 times"]


def test_a_group_that_was_sampled_in_place_of_another_is_seen() -> None:
    rollouts, metrics = logs()
    for row in rollouts:
        if row["episode"] == 40 and row["group"] == 7:
            row["id"] = 0  # asked in episodes 1 and 33 already
    assert audit(rollouts, metrics) == ["a problem was asked 3 times and another 1 times"]


def test_a_lost_episode_and_a_lost_update_are_seen() -> None:
    rollouts, metrics = logs()
    assert any("episodes are" in text for text in audit([r for r in rollouts if r["episode"] != 4], metrics))
    assert any("updates" in text for text in audit(rollouts, metrics[:-1]))


def test_its_judge_is_understood_and_fails_every_fifth_call() -> None:
    with judge_server(answer) as server:
        judge = Judge(server.url, "soak", backoff_s=0.001, max_retries=6)
        problems = [Problem(prompt=f"{n}+1=?", answer=str(n + 1)) for n in range(20)]

        async def ask() -> list[Score]:
            return list(await asyncio.gather(*(judge("\\boxed{3}", problem) for problem in problems)))

        assert {score.status for score in asyncio.run(ask())} == {"scored"}
        assert len(server.asked) >= 24  # 20 verdicts, and one failure to every four calls that succeed
