"""SAIL-RL's cascade through the scorer that training and the command line use, with judges on a scripted server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sailrl.scoring.scorer import Scorer, ScoreRequest
from sailrl.scoring.spec import PartSpec, ScoringSpec
from sailrl.types import Problem
from tests.fakes.judge_server import Action, Asked, Refuse, Say, judge_server

PROBLEM = Problem(prompt="What is 1 + 1?", answer="2", id="p")


def spec(url: str, **settings: Any) -> ScoringSpec:
    judge = {"base_url": url, "model": "m", "backoff_s": 0.001, "max_retries": 1, **settings}
    return ScoringSpec(
        parts={
            "boxed": PartSpec("rewards.boxed:BoxedAnswer"),
            "thinking": PartSpec("rewards.thinking:Thinking", judge),
            "judging": PartSpec("rewards.judging:Judging", judge),
            "think_format": PartSpec("rewards.think_format:ThinkFormat"),
        },
        combine=PartSpec("rewards.mix:Cascade"),
        workers=1,
    )


def lenient(body: dict[str, Any], n: int) -> Action:
    """Finds everything right, except thinking that says it is a guess, which it finds inconsistent."""
    asked = Asked(body, {}, "")
    assert asked.schema is not None
    names = asked.schema["required"]
    guess = "guess" in asked.fields().get("THINKING", "")
    return Say(json.dumps({name: not (name == "is_consistent" and guess) for name in names}))


def test_a_group_is_scored_by_the_cascade() -> None:
    responses = {
        "<think>One and one.</think>\\boxed{2}": 1.0,
        "<think>One and one.</think>\\boxed{3}": 0.1,  # wrong: only the format is left
        "<think>A guess.</think>\\boxed{2}": 0.7,  # 0.9 * 2/3 + 0.1
        "\\boxed{2}": 0.0,  # it should have thought, and has not the form
    }
    with judge_server(lenient) as server, Scorer(spec(server.url)) as scorer:
        rows = ((response, ScoreRequest(response, PROBLEM)) for response in responses)
        got = [scored.total.value for _, scored in scorer.score_stream(rows)]
        assert got == pytest.approx(list(responses.values()))
        metrics = scorer.metrics()
    assert metrics["score/thinking/calls"] == metrics["score/judging/calls"] > 0  # one client, counted once for both


def test_an_outage_leaves_every_row_unscored_with_the_part_and_the_reason() -> None:
    with judge_server(Refuse(503)) as server, Scorer(spec(server.url, breaker_failures=2)) as scorer:
        rows = (ScoreRequest(f"<think>{n}</think>\\boxed{{2}}", PROBLEM) for n in range(50))
        got = [scored for _, scored in scorer.score_stream((None, row) for row in rows)]
        assert {one.total.value for one in got} == {None}
        assert {one.total.reason for one in got} <= {"judging:http_503", "judging:breaker_open"}
        assert {one.scores["thinking"].reason for one in got} == {"http_503", "breaker_open"}
        assert len(server.asked) < 150  # 3 judgments for each of 50 rows and a retry would be 300


def test_a_failure_names_the_judge_that_was_asked_and_what_to_do() -> None:
    with judge_server(lambda body, n: Refuse(401)) as server:
        scoring = spec(server.url)
        with Scorer(scoring) as scorer:
            scored = scorer.score_now("<think>1 and 1</think>\\boxed{2}", PROBLEM)
    todo = "Name the environment variable that holds its key as api_key_env"
    assert scored.details["thinking"] == f"asked m at {server.url}. {todo}"
    assert "boxed" not in scored.details  # what is scored needs no word


def test_a_second_run_over_the_same_rows_asks_nobody(tmp_path: Path) -> None:
    row = ScoreRequest("<think>One and one.</think>\\boxed{2}", PROBLEM)
    with judge_server(lenient) as server, Scorer(spec(server.url, cache_dir=str(tmp_path))) as scorer:
        assert scorer.score_now(row.response, row.problem).total.value == pytest.approx(1.0)
        assert len(server.asked) == 4
    with judge_server(Refuse(500)) as server, Scorer(spec(server.url, cache_dir=str(tmp_path))) as scorer:
        assert scorer.score_now(row.response, row.problem).total.value == pytest.approx(1.0)
        assert server.asked == []
