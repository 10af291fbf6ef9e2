"""One answer reward for rows that a rule can verify and rows that only a judge can."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rewards.answer import RuleOrJudge
from sailrl.types import Problem, Score
from tests.fakes.judge_server import Action, Refuse, Say, judge_server

YES = Say('{"is_correct": true}')


def score(action: Action, response: str, problem: Problem, **args: Any) -> tuple[Score, int]:
    """The score, and how many calls it took."""
    with judge_server(action) as server:

        async def work() -> Score:
            reward = RuleOrJudge(server.url, "m", max_retries=0, **args)
            try:
                return await reward(response, problem)
            finally:
                await reward.aclose()

        return asyncio.run(work()), len(server.asked)


@pytest.mark.parametrize(("response", "value"), [("\\boxed{2}", 1.0), ("\\boxed{3}", 0.0), ("2", 0.0)])
def test_what_a_rule_can_verify_costs_no_call_and_the_judge_is_no_appeal(response: str, value: float) -> None:
    got, calls = score(YES, response, Problem(prompt="1 + 1?", answer="2"))
    assert got.value == value
    assert calls == 0


def test_what_only_algebra_can_decide_is_still_decided_by_the_rule() -> None:
    problem = Problem(prompt="Expand.", answer="\\int x dx")
    got, calls = score(YES, "\\boxed{\\int y dy}", problem)
    assert got.status == "scored"
    assert calls == 0


@pytest.mark.parametrize(
    "problem",
    [
        Problem(prompt="Describe the picture.", answer="a red disc", task="open"),
        Problem(prompt="Describe the picture."),
        Problem(prompt="Describe the picture.", answer={"shape": "disc"}),
    ],
)
def test_what_no_rule_can_verify_goes_to_the_judge(problem: Problem) -> None:
    assert score(YES, "\\boxed{one crimson disc}", problem) == (Score(1.0, reason="correct"), 1)


def test_the_tasks_for_the_judge_are_the_users_choice() -> None:
    problem = Problem(prompt="Caption?", answer="a red disc", task="caption")
    assert score(YES, "\\boxed{crimson}", problem, judged_tasks=["caption"])[1] == 1
    assert score(YES, "\\boxed{crimson}", problem)[1] == 0


def test_a_judge_that_cannot_be_had_leaves_the_row_unscored() -> None:
    got, _ = score(Refuse(500), "\\boxed{x}", Problem(prompt="?", task="open", answer="y"))
    assert got == Score(None, "failed", "http_500")


def test_a_response_that_is_no_text_is_unscorable() -> None:
    got, calls = score(YES, None, Problem(prompt="?", answer="1"))  # type: ignore[arg-type]
    assert (got, calls) == (Score(None, "unscorable", "response_not_text"), 0)
