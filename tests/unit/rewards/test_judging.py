"""SAIL-RL's judging reward: was it right to think, or not to?"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rewards.judging import Judging
from rewards.mix import Cascade
from sailrl.types import Problem, Score
from tests.fakes.judge_server import Action, Refuse, Say, judge_server

THOUGHT = "<think>First, then.</think>\\boxed{3}"
DIRECT = "<think>\n\n</think>\\boxed{3}"


def says(correct: bool, required: bool) -> Say:
    return Say(json.dumps({"is_judgment_correct": correct, "requires_reasoning": required}))


def score(action: Action, *responses: str, problem: Problem | None = None) -> tuple[list[Score], list[Any]]:
    with judge_server(action) as server:

        async def work() -> list[Score]:
            reward = Judging(server.url, "m", max_retries=0)
            row = problem or Problem(prompt="How many discs are red?")
            try:
                return list(await asyncio.gather(*(reward(response, row) for response in responses)))
            finally:
                await reward.aclose()

        return asyncio.run(work()), server.asked


def labelled(value: Any) -> Problem:
    return Problem(prompt="?", meta={"requires_reasoning": value})


@pytest.mark.parametrize(
    ("response", "label", "expected"),
    [
        (THOUGHT, True, Score(1.0, reason="rightly_think")),
        (THOUGHT, False, Score(0.0, reason="wrongly_think")),
        (DIRECT, True, Score(0.0, reason="wrongly_direct")),
        (DIRECT, False, Score(1.0, reason="rightly_direct")),
        ("\\boxed{3}", False, Score(1.0, reason="rightly_direct")),
        ("<think>cut off", True, Score(1.0, reason="rightly_think")),
    ],
)
def test_a_labelled_row_is_decided_without_a_call(response: str, label: bool, expected: Score) -> None:
    scores, asked = score(Refuse(500), response, problem=labelled(label))
    assert scores == [expected]
    assert asked == []


@pytest.mark.parametrize("label", ["yes", 1, 0.0, []])
def test_a_label_that_is_no_boolean_is_the_datas_fault(label: Any) -> None:
    assert score(says(True, True), THOUGHT, problem=labelled(label))[0] == [
        Score(None, "unscorable", "label_not_boolean")
    ]


@pytest.mark.parametrize(
    ("response", "required", "value"), [(THOUGHT, True, 1), (THOUGHT, False, 0), (DIRECT, True, 0), (DIRECT, False, 1)]
)
def test_without_a_label_the_judge_says_whether_reasoning_was_called_for(
    response: str, required: bool, value: float
) -> None:
    # Without a <judge> block the judge's other boolean is about a sentence of ours, and must not matter.
    for correct in (True, False):
        assert score(says(correct, required), response)[0][0].value == value


def test_the_judge_sees_the_block_and_not_the_reasoning() -> None:
    _, (asked,) = score(says(True, True), "<judge>Several steps are needed.</judge>" + THOUGHT)
    assert asked.fields() == {"QUESTION": "How many discs are red?", "MODEL JUDGMENT": "Several steps are needed."}
    assert asked.schema is not None
    assert asked.schema["required"] == ["is_judgment_correct", "requires_reasoning"]
    assert "First, then" not in str(asked.body)


def test_the_words_of_a_judge_block_must_be_right_as_well() -> None:
    block = "<judge>This question does not require thinking.</judge>"
    assert score(says(False, True), block + THOUGHT)[0] == [Score(0.0, reason="wrongly_think")]
    assert score(says(True, True), block + THOUGHT)[0] == [Score(1.0, reason="rightly_think")]
    assert score(says(True, False), block + THOUGHT)[0] == [Score(0.0, reason="wrongly_think")]  # it thought after all


def test_a_group_without_blocks_costs_one_call_per_decision() -> None:
    group = [f"<think>path {n}</think>\\boxed{{{n}}}" for n in range(5)] + [DIRECT, "\\boxed{1}"]
    scores, asked = score(says(True, True), *group)
    assert [one.value for one in scores] == [1.0] * 5 + [0.0] * 2
    assert len(asked) == 2


def test_a_failure_is_no_score() -> None:
    assert score(Refuse(503), THOUGHT)[0] == [Score(None, "failed", "http_503")]


def test_a_direct_answer_that_was_right_to_be_direct_can_earn_the_whole_cascade() -> None:
    # R_think of a response that rightly does not think must be 1, or the product could never reward it.
    parts = {"judging": score(says(True, False), DIRECT)[0][0]}
    parts |= {"thinking": Score(1.0), "boxed": Score(1.0), "think_format": Score(1.0)}
    assert Cascade()(parts, {}).value == pytest.approx(1.0)
