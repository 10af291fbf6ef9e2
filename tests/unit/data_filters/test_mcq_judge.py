"""Rewriting through a judge's endpoint: what it is shown, and what becomes of all it may reply. Real sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_filters.mcq_judge import JudgeRewriter
from data_filters.mcq_rewrite import RewriteMcq
from data_filters.reading import Conversion
from sailrl.config.filtering import FilterConfig
from sailrl.curate.steps import build_steps
from sailrl.errors import RewardError
from tests.fakes.judge_server import Action, JudgeServer, Refuse, Say, Script, judge_server

ROW = {"id": "a", "prompt": "Which of the following is the sum of 1 and 3?\nA. 5\nB. 4", "answer": "B"}
REWRITTEN = Say(json.dumps({"can_be_rewritten": True, "question": "What is the sum of 1 and 3?", "answer": "4"}))
SOLVED = Say(json.dumps({"working": "1 + 3 = 4", "answer": "4"}))


def script(rewritten: Action = REWRITTEN, solved: Action = SOLVED) -> Script:
    """Answers by what the schema asks for."""
    return lambda body, n: solved if "working" in json.dumps(body["response_format"]) else rewritten


def converted(server: JudgeServer, row: dict[str, Any] = ROW, **settings: Any) -> Conversion:
    async def work() -> Conversion:
        rewriter = JudgeRewriter(server.url, "m", **{"backoff_s": 0.001, "max_retries": 1, **settings})
        try:
            return await RewriteMcq(rewriter.rewrite, rewriter.solve).convert(row)
        finally:
            await rewriter.aclose()

    return asyncio.run(work())


def test_one_request_rewrites_and_another_solves_without_answer_and_options(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    row = {**ROW, "prompt": f"<image>\n{ROW['prompt']}", "images": [str(tmp_path / "a.png")]}
    with judge_server(script()) as server:
        conversion = converted(server, row)
    assert conversion.verdict.reason == "rewritten"
    assert conversion.row is not None
    assert conversion.row["prompt"] == "<image>\nWhat is the sum of 1 and 3?"
    first, second = server.asked
    assert first.fields() == {"QUESTION": ROW["prompt"], "REFERENCE ANSWER": "4"}
    assert second.fields() == {"QUESTION": "What is the sum of 1 and 3?"}
    assert len(first.image_urls) == len(second.image_urls) == 1
    assert first.schema == {
        "type": "object",
        "properties": {
            "can_be_rewritten": {"type": "boolean"},
            "question": {"type": "string"},
            "answer": {"type": "string"},
        },
        "required": ["can_be_rewritten", "question", "answer"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("rewritten", "reason"),
    [
        (Say('{"can_be_rewritten": false, "question": "", "answer": ""}'), "rewrite_refused"),
        (Say('{"can_be_rewritten": true, "question": " ", "answer": "4"}'), "rewrite_refused"),
        (Say('{"can_be_rewritten": true, "question": "How many?"}'), "rewrite_unanswered"),
        (Say('{"can_be_rewritten": "yes", "question": "How many?", "answer": "4"}'), "rewrite_unanswered"),
        (Say('{"can_be_rewritten": true, "question": ["How many?"], "answer": "4"}'), "rewrite_unanswered"),
        (Say('{"can_be_rewritten": true, "question": "\\ud800?", "answer": "4"}'), "rewrite_unanswered"),
        (Say("What is the sum of 1 and 3? 4"), "rewrite_unanswered"),
        (Say(None), "rewrite_unanswered"),
        (Refuse(500), "rewrite_unanswered"),
    ],
)
def test_a_reply_that_is_no_rewrite_leaves_the_row_as_it_was(rewritten: Action, reason: str) -> None:
    with judge_server(script(rewritten)) as server:
        conversion = converted(server)
    assert (conversion.verdict.reason, conversion.row) == (reason, ROW)


def test_an_answer_that_the_question_does_not_give_is_found_out() -> None:
    with judge_server(script(solved=Say('{"working": "?", "answer": "5"}'))) as server:
        conversion = converted(server)
    assert conversion.verdict.reason == "rewrite_not_derivable"
    assert conversion.verdict.evidence["solved"] == "5"


def test_what_cannot_be_shown_whole_is_not_asked() -> None:
    long = {**ROW, "prompt": "x" * 200 + ROW["prompt"]}
    with judge_server(script()) as server:
        assert converted(server, long, max_response_chars=100).verdict.reason == "rewrite_refused"
        gone = converted(server, {**ROW, "images": ["/gone.png"]})
        assert (gone.verdict.reason, server.asked) == ("rewrite_refused", [])


def test_a_cached_rewrite_is_not_asked_for_again_and_a_forged_one_is_not_believed(tmp_path: Path) -> None:
    with judge_server(script()) as server:
        for _ in range(2):
            assert converted(server, cache_dir=str(tmp_path)).verdict.reason == "rewritten"
        assert len(server.asked) == 2
        for file in tmp_path.rglob("*.json"):
            file.write_text('{"verdict": {"can_be_rewritten": "yes", "question": true, "answer": "4"}}')
        assert converted(server, cache_dir=str(tmp_path), max_retries=2).verdict.reason == "rewritten"
        assert len(server.asked) == 4


def _config(server: JudgeServer, **mcq: Any) -> FilterConfig:
    args = {"base_url": server.url, "model": "m", "max_retries": 0, "backoff_s": 0.001}
    rewrite = {"use": "data_filters.mcq_judge:JudgeRewriter", "args": args}
    return FilterConfig.model_validate({"kind": "filter", "mcq": {"rewrite": rewrite, **mcq}})


def test_the_filter_job_reaches_it_from_its_configuration(tmp_path: Path) -> None:
    with judge_server(script()) as server:
        steps = build_steps(_config(server), [ROW], tmp_path)
        row = steps.convert(ROW).row
    assert row is not None
    assert (row["prompt"], steps.counts["mcq"]) == ("What is the sum of 1 and 3?", {"rewritten": 1})


def test_a_server_that_is_down_stops_the_filter_unless_that_is_allowed(tmp_path: Path) -> None:
    with judge_server(Refuse(500)) as server:
        with pytest.raises(RewardError, match=r"1 of 1 questions got no answer.*http_500.*at most 10% may"):
            build_steps(_config(server), [ROW], tmp_path)
        steps = build_steps(_config(server, max_unanswered_rate=1.0), [ROW], tmp_path)
        assert steps.convert(ROW).row is not None
    assert steps.counts["mcq"] == {"rewrite_unanswered": 1}


def test_a_filter_that_starts_again_asks_for_what_was_not_answered_only(tmp_path: Path) -> None:
    """The server answers the first row and then no more; the second run asks for the second row alone."""
    other = {"id": "b", "prompt": "Which of the following is the sum of 2 and 2?\nA. 5\nB. 4", "answer": "B"}

    def dying(body: Any, n: int) -> Action:
        return Refuse(500) if "2 and 2" in json.dumps(body) else script()(body, n)

    with judge_server(dying) as server:
        config = _config(server)
        with pytest.raises(RewardError, match="1 of 2 questions got no answer"):
            build_steps(config, [ROW, other], tmp_path)
        server.script = script()
        before = len(server.asked)
        steps = build_steps(config, [ROW, other], tmp_path)
        assert [asked.fields()["QUESTION"] for asked in server.asked[before:]] == [
            other["prompt"],
            "What is the sum of 1 and 3?",  # what this scripted model makes of every question
        ]
        assert steps.convert(ROW).row is not None
        assert steps.counts["mcq"] == {"rewritten": 1}
        build_steps(config, [ROW, {**other, "answer": "A"}], tmp_path)  # another reference is another question
        assert server.asked[before + 2].fields()["REFERENCE ANSWER"] == "5"
