"""The format reward against its rule: every row of the labelled set, and linear time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.think_format import ThinkFormat
from sailrl.types import Problem, Score

_LABELLED = Path(__file__).parents[2] / "data" / "format_labelled.jsonl"
ROWS = [json.loads(line) for line in _LABELLED.read_text(encoding="utf-8").splitlines()]
PLAIN, JUDGED = ThinkFormat(), ThinkFormat(judge_form=True)


def test_every_labelled_row_gets_its_label() -> None:
    assert len(ROWS) >= 150
    wrong = []
    for row in ROWS:
        reward = JUDGED if row.get("judge_form") else PLAIN
        said = reward(row["response"], Problem(response_prefix=row.get("response_prefix", "")))
        if said.value != row["label"]:
            wrong.append((row, said))
    assert not wrong


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("<think>a</think>\\boxed{1}", "well_formed"),
        ("\\boxed{1}", "no_think"),
        ("<think>a<think>b</think>\\boxed{1}", "several_thinks"),
        ("Hi <think>a</think>\\boxed{1}", "text_before_think"),
        ("</think>a<think>\\boxed{1}", "close_before_open"),
        ("<think> </think>\\boxed{1}", "blank_thinking"),
        ("<think>\\boxed{1}</think>1", "no_box"),
    ],
)
def test_the_reason_names_the_first_fault(response: str, reason: str) -> None:
    assert PLAIN(response, Problem()) == Score(float(reason == "well_formed"), "scored", reason)


def test_a_template_that_opened_the_tag_counts_as_the_open_tag() -> None:
    response = "a</think>\\boxed{1}"
    assert PLAIN(response, Problem(response_prefix="<think>\n")).value == 1.0
    assert PLAIN(response, Problem()).value == 0.0  # negative control: without it the tag is missing
    assert PLAIN(f"<think>{response}", Problem(response_prefix="<think>\n")).value == 0.0  # opened twice


def test_an_empty_think_is_right_only_when_the_judgment_says_so() -> None:
    simple = "<judge>This question does not require thinking.</judge><think></think>\\boxed{1}"
    hard = "<judge>This question requires thinking.</judge><think></think>\\boxed{1}"
    assert (JUDGED(simple, Problem()).value, JUDGED(hard, Problem()).value) == (1.0, 0.0)


def test_a_response_that_is_no_text_is_the_datas_fault() -> None:
    anything: Any = None
    assert PLAIN(anything, Problem()).status == "unscorable"


@given(st.text(), st.text(max_size=10))
def test_it_never_raises(response: str, prefix: str) -> None:
    PLAIN(response, Problem(response_prefix=prefix))
    JUDGED(response, Problem(response_prefix=prefix))
