"""A response that runs out of time or memory by its own doing is wrong. Were it left without a score, a policy would
learn to dodge a wrong answer with an expensive one."""

from __future__ import annotations

import pytest

from rewards.boxed import BoxedAnswer
from sailrl.scoring import PartSpec, Scorer, ScoringSpec
from sailrl.types import Problem, Score

SLOW = r"\prod_{k=1}^{999} (1+1/k^2)"
"""Passes the gate (fewer than 1,000 terms), and sympy multiplies fractions of ever more digits for minutes."""


def scored(use: str, response: str, answer: str, deadline_s: float) -> Score:
    with Scorer(ScoringSpec({"part": PartSpec(use, {}, 1.0)}, deadline_s=deadline_s), workers=1) as scorer:
        return scorer.score_now(response, Problem(answer=answer)).scores["part"]


@pytest.mark.parametrize(
    ("response", "answer", "expected"),
    [
        ("loop", "fine", Score(0.0, reason="too_slow")),
        ("bloat", "fine", Score(0.0, reason="too_large")),
        ("loop", "loop", Score(None, "unscorable", "problem_too_slow")),
        ("loop", "bloat", Score(None, "unscorable", "problem_too_large")),
        ("bloat", "bloat", Score(None, "unscorable", "problem_too_large")),
        ("loop", "raise", Score(None, "timed_out", "deadline")),  # a dry run that fails shows nothing
        ("segfault", "fine", Score(None, "failed", "worker_died:SIGSEGV")),  # a bug, whoever sets it off
        ("fine", "loop", Score(1.0, reason="fine")),
    ],
)
def test_the_dry_run_tells_whether_response_or_problem_is_to_blame(response: str, answer: str, expected: Score) -> None:
    got = scored("tests.unit.scoring.sample_rewards:TellsWhoIsToBlame", response, answer, 0.3)
    assert (got.value, got.status) == (expected.value, expected.status)
    if "bloat" not in (response, answer):  # a busy machine may run out of time before it runs out of memory
        assert got.reason == expected.reason


def test_the_responses_to_one_problem_share_one_dry_run() -> None:
    use = "tests.unit.scoring.sample_rewards:TellsWhoIsToBlame"
    with Scorer(ScoringSpec({"part": PartSpec(use, {}, 1.0)}, deadline_s=0.3), workers=1) as scorer:
        calls = []
        for answer in ("fine", "fine", "good"):
            before = scorer._pool.calls
            assert scorer.score_now("bloat", Problem(answer=answer)).scores["part"].value == 0.0
            calls.append(scorer._pool.calls - before)
        assert calls == [3, 2, 3]  # once, once more alone, and the dry run


def test_without_a_dry_run_a_response_that_runs_out_of_time_has_no_score() -> None:
    got = scored("tests.unit.scoring.sample_rewards:Misbehaves", "loop", "fine", 0.3)
    assert got == Score(None, "timed_out", "deadline")


def test_a_slow_expression_in_the_box_is_wrong_and_one_in_the_reference_is_the_datas_fault() -> None:
    boxed = BoxedAnswer(deadline_s=0.5)
    slow, plain = f"\\boxed{{{SLOW}}}", "\\boxed{\\int_0^1 x^{x} dx}"
    assert boxed(slow, Problem(answer=r"\int_0^1 x dx")) == Score(0.0, reason="too_slow")
    assert boxed(plain, Problem(answer=SLOW)) == Score(None, "unscorable", "gold_too_slow")


def test_the_scorers_own_workers_say_the_same_of_a_slow_expression() -> None:
    use, slow = "rewards.boxed:BoxedAnswer", f"\\boxed{{{SLOW}}}"
    assert scored(use, slow, r"\int_0^1 x dx", 0.5) == Score(0.0, reason="too_slow")
    assert scored(use, "\\boxed{\\int_0^1 x^{x} dx}", SLOW, 0.5) == Score(None, "unscorable", "problem_too_slow")
