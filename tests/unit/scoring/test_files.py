"""The pieces between files and the scorer: names, rows, summaries, comparisons."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sailrl.config.rewards import RewardsConfig
from sailrl.errors import ConfigError
from sailrl.scoring import PartSpec, ScoreRequest, ScoringSpec
from sailrl.scoring.compare import MAX_LISTED, Comparison, verdict
from sailrl.scoring.requests import request_from_row
from sailrl.scoring.spec import resolve
from sailrl.scoring.summary import MAX_TASKS, OTHER, Summary
from sailrl.scoring.worker import pack_problem, unpack_problem
from sailrl.types import Problem, Score


def out(value: float | None, status: str = "scored", reason: str = "exact", **row: Any) -> dict[str, Any]:
    return row | {"reward": value, "scores": {"a": {"value": value, "status": status, "reason": reason}}}


def test_a_short_name_is_the_one_reward_of_its_module() -> None:
    assert resolve("repetition") == "rewards.repetition:Repetition"
    assert resolve("boxed") == "rewards.boxed:BoxedAnswer"
    assert resolve("mine.py:Reward") == "mine.py:Reward"
    with pytest.raises(ConfigError, match="Nearest: repetition"):
        resolve("repetitoin")
    with pytest.raises(ConfigError, match="neither a short name"):
        resolve("my reward")


def test_a_spec_from_a_config_is_the_same_as_one_by_hand() -> None:
    config = RewardsConfig.model_validate(
        {"parts": {"a": {"use": "m:A", "weight": 1.0, "args": {"n": 2}}}, "workers": 3, "deadline_s": 2.0}
    )
    by_hand = ScoringSpec({"a": PartSpec("m:A", {"n": 2}, 1.0)}, workers=3, deadline_s=2.0)
    assert ScoringSpec.from_config(config) == by_hand


def test_a_row_becomes_a_request_with_its_problem_and_token_count() -> None:
    row = {
        "response": "r",
        "answer": 4,
        "precision": 2.0,
        "images": ["a.png"],
        "response_tokens": 7,
        "unknown": object(),
    }
    request = request_from_row(row, where="in.jsonl:3", folder=Path("/data"))
    assert request == ScoreRequest("r", Problem(answer=4, precision=2, images=("/data/a.png",), id="in.jsonl:3"), 7)
    bad = request_from_row({"response": "r", "precision": math.inf}, where="in.jsonl:3", folder=Path("/data"))
    assert bad == Score(None, "unscorable", "bad_field:precision")


def test_problems_survive_the_pipe_as_far_as_json_can_carry_them() -> None:
    problem = Problem(prompt=[{"role": "user", "content": "x"}], answer=("1", 2), images=[b"\xff"], meta={"d": [b"x"]})
    assert unpack_problem(pack_problem(problem)) == Problem(
        prompt=[{"role": "user", "content": "x"}], answer=["1", 2], images=[b"\xff"], meta={"d": [b"x"]}
    )
    assert pack_problem(Problem()) == {"meta": {}}  # all other fields are at their defaults
    meta: dict[Any, Any] = {1: Decimal("1.5"), "day": datetime.date(2024, 5, 1), "set": {2, 1}}
    odd = pack_problem(Problem(meta=meta))
    assert odd == {"meta": {"1": "1.5", "day": "2024-05-01", "set": [1, 2]}}


def test_a_summary_keeps_means_over_scored_rows_only_and_the_worst_status_of_each() -> None:
    summary = Summary()
    rows = (out(1.0, task="x"), out(0.0, task="x"), out(None, "failed", "down", task="x"), out(1.0))
    for line, row in enumerate(rows, 1):
        summary.add(row, line)
    x, total = summary.tasks["x"], summary.total()
    assert (x.rows, str(x.reward), str(x.parts["a"])) == (3, "0.5000", "0.5000")  # (1 + 0) / 2, not / 3
    assert (total.rows, str(total.reward)) == (4, "0.6667")
    assert dict(total.statuses) == {"scored": 3, "failed": 1}
    assert summary.reasons["a", "failed", "down"] == 1
    assert summary.first_unscored == "line 3, a: down"


def test_a_task_in_every_row_does_not_fill_the_summary() -> None:
    summary = Summary()
    for i in range(1000):
        summary.add(out(1.0, reason=f"reason {i}", task=f"task {i}"), i)
    assert len(summary.tasks) == MAX_TASKS + 1
    assert summary.tasks[OTHER].rows == 1000 - MAX_TASKS
    assert sum(summary.reasons.values()) == 1000
    assert len(summary.reasons) == 201  # 200 and the rest


@pytest.mark.parametrize(
    ("said", "means"),
    [
        *((True, True), (0, False), (1, True), (0.9, False), (0.6 + 0.3 + 0.1, True), (" Correct ", True)),
        *(("no", False), ("maybe", None), ("1.0", True), ("0", False), ("1", True), ("0.5", False), ("TRUE", True)),
    ],
)
def test_labels_are_numbers_truth_values_or_words_for_them(said: Any, means: bool | None) -> None:
    assert verdict(said) is means


@pytest.mark.parametrize("nothing", [None, math.nan, [1], "", "nan", "1,0", {"value": 1}])
def test_what_is_no_label_is_not_a_wrong_one(nothing: Any) -> None:
    assert verdict(nothing) is None


def test_a_comparison_counts_pairs_and_lists_only_the_first_disagreements() -> None:
    comparison = Comparison()
    for i in range(100):
        comparison.add(i, out(1.0), "a", i % 2 == 1)
    comparison.add(100, out(None, "failed", "down"), "a", True)
    assert comparison.counts == {(True, True): 50, (True, False): 50, (False, True): 0, (False, False): 0}
    assert (comparison.agreement, comparison.not_compared, len(comparison.listed)) == (0.5, 1, MAX_LISTED)
    assert Comparison().agreement is None
