"""The answer reward against the label rule: every row of the labelled set, and what no row can show."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.boxed import BoxedAnswer
from sailrl.types import Problem, Score
from tests.fakes.clock import processor_s

_LABELLED = Path(__file__).parents[2] / "data" / "boxed_labelled.jsonl"
_ROWS: dict[str, list[dict[str, Any]]] = defaultdict(list)
for _line in _LABELLED.read_text(encoding="utf-8").splitlines():
    _row = json.loads(_line)
    _ROWS[_row["category"]].append(_row)

REWARD = BoxedAnswer()


def problem(row: dict[str, Any]) -> Problem:
    fields = ("answer", "choices", "precision", "task", "response_prefix")
    return Problem(**{name: row[name] for name in fields if name in row})


def score(answer: str, gold: Any, **fields: Any) -> Score:
    return REWARD(f"<think>Let me see.</think> The answer is \\boxed{{{answer}}}.", Problem(answer=gold, **fields))


def reason(answer: str, gold: Any, **fields: Any) -> str:
    return score(answer, gold, **fields).reason


# --- the labelled set ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", sorted(_ROWS))
def test_every_labelled_row_gets_its_label(category: str) -> None:
    wrong = [
        (row["id"], row["response"][-80:], row["answer"], row["label"], said)
        for row in _ROWS[category]
        if (said := REWARD(row["response"], problem(row))).value != row["label"]
    ]
    assert not wrong


def test_the_labelled_set_is_large_and_balanced() -> None:
    rows = [row for rows in _ROWS.values() for row in rows]
    assert len(rows) >= 4000
    assert 0.4 < sum(row["label"] for row in rows) / len(rows) < 0.6


def test_hardly_any_row_needs_sympy() -> None:
    rows = [row for rows in _ROWS.values() for row in rows]
    assert sum(REWARD.fast(row["response"], problem(row)) is None for row in rows) < 0.02 * len(rows)


# --- reasons -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "gold", "value", "expected"),
    [
        ("42", "42", 1.0, "exact"),
        ("42.0", "42", 1.0, "number"),
        ("43", "42", 0.0, "number"),
        ("28\\%", "0.28", 1.0, "percent"),
        ("5 m", "5 cm", 0.0, "unit"),
        ("y = 5", "x = 5", 0.0, "label"),
        ("(2,1)", "(1,2)", 0.0, "tuple"),
        ("2,1", "1,2", 1.0, "list"),
        ("\\{2,1\\}", "\\{1,2\\}", 1.0, "set"),
        ("[1,2)", "(1,2)", 0.0, "interval"),
        ("(x+1)^2", "x^2+2x+1", 1.0, "expression"),
        ("2y = 4x", "y - 2x = 0", 1.0, "equation"),
        ("B) 7", "B", 1.0, "choice"),
        ("nope", "yes", 0.0, "yes_no"),
        ("2017", "2023-05-01", 0.0, "literal"),
        ("the cat", "cat", 1.0, "text"),
        ("9^{9^{9^9}}", "5", 0.0, "too_large"),
    ],
)
def test_the_reason_names_the_rule_that_decided(answer: str, gold: str, value: float, expected: str) -> None:
    assert score(answer, gold) == Score(value, "scored", expected)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("The answer is 42.", "no_box"),
        ("\\boxed{42", "unclosed"),
        ("\\boxed{ }", "empty"),
        ("<think>\\boxed{42}", "unclosed_think"),
        ("\\boxed{42} or \\boxed{43}", "multiple_conflicting"),
    ],
)
def test_a_fault_of_the_response_is_a_zero_with_its_name(response: str, expected: str) -> None:
    assert REWARD(response, Problem(answer="42")) == Score(0.0, "scored", expected)


@pytest.mark.parametrize("gold", [None, "", "  ", float("nan"), float("inf"), {}, b"42", [], [None], "\\boxed{}"])
def test_a_gold_that_no_rule_can_use_is_unscorable(gold: Any) -> None:
    said = REWARD("\\boxed{42}", Problem(answer=gold))
    assert (said.value, said.status) == (None, "unscorable")


def test_no_box_never_matches_a_gold_of_none() -> None:
    assert REWARD("no idea", Problem(answer=None)).value is None
    assert REWARD("no idea", Problem(answer="None")).value == 0.0
    assert REWARD("\\boxed{None}", Problem(answer="None")).value == 1.0  # the word itself may be the answer


@pytest.mark.parametrize("response", [None, 42, b"\\boxed{42}", ["\\boxed{42}"]])
def test_a_response_that_is_no_text_is_the_datas_fault(response: Any) -> None:
    assert REWARD(response, Problem(answer="42")).status == "unscorable"


def test_the_same_gold_as_text_int_and_float_scores_the_same() -> None:
    for gold in (
        "42",
        42,
        42.0,
        " 42 ",
        "$42$",
        "#### 42",
        "\\boxed{42}",
        "<answer> 42 </answer>",
        "So it is.\n<answer>\\boxed{42}</answer>",
    ):
        assert score("42", gold).value == 1.0, gold
        assert score("43", gold).value == 0.0, gold


def test_true_and_one_are_not_confused_by_the_cache() -> None:
    assert score("1", 1).value == 1.0
    assert score("yes", True).value == 1.0
    assert score("1", True).value == 0.0
    assert score("yes", 1).value == 0.0


# --- boxes in pictures -----------------------------------------------------------------------------------------------


def test_the_iou_threshold_is_an_argument() -> None:
    # overlap 8 x 10 = 80, union 100 + 100 - 80 = 120: 0.667
    row = Problem(answer=[0, 0, 10, 10], task="box")
    response = "\\boxed{[2, 0, 12, 10]}"
    assert BoxedAnswer(iou_threshold=0.6)(response, row).value == 1.0
    assert BoxedAnswer(iou_threshold=0.7)(response, row).value == 0.0


def test_an_iou_threshold_outside_of_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="iou_threshold"):
        BoxedAnswer(iou_threshold=0)


# --- two phases ------------------------------------------------------------------------------------------------------

_NEEDS_SYMPY = ("\\int_0^1 2x \\, dx", "\\frac{d}{dx} x")


def test_what_only_sympy_can_read_is_pending_and_then_decided() -> None:
    answer, gold = _NEEDS_SYMPY
    response = f"\\boxed{{{answer}}}"
    assert REWARD.fast(response, Problem(answer=gold)) is None
    assert REWARD(response, Problem(answer=gold)).reason == "symbolic"


def test_the_symbolic_step_works_from_a_thread() -> None:
    said: list[Score] = []
    worker = threading.Thread(target=lambda: said.append(score("\\sum_{k=1}^{4} k", "\\sum_{j=0}^{4} j")))
    worker.start()
    worker.join(timeout=120)
    assert said[0].status == "scored"


def test_explain_shows_the_decision_path() -> None:
    path = REWARD.explain("<think>x</think>\\boxed{0.5}", Problem(answer="1/2"))
    assert any("0.5" in line for line in path)
    assert path[-1] == "scored: 1.0 by number"


def test_importing_the_reward_loads_neither_sympy_nor_torch() -> None:
    code = (
        "import sys, rewards.boxed, rewards.think_format; "
        "print([m for m in ('sympy', 'math_verify', 'torch', 'ray') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# --- hostile rows ----------------------------------------------------------------------------------------------------

_HOSTILE = {
    "power tower": "\\boxed{9^{9^{9^9}}}",
    "ten to the ten": "\\boxed{10^{10^{10}}}",
    "factorial": "\\boxed{99999999999!}",
    "factorial of factorial": "\\boxed{((9!)!)!}",
    "exponent": "\\boxed{1e999999999}",
    "binomial": "\\boxed{\\binom{99999999}{5000000}}",
    "deep braces": "\\boxed{" + "{" * 10_000 + "42" + "}" * 10_000 + "}",
    "deep parentheses": "\\boxed{" + "(" * 10_000 + "42" + ")" * 10_000 + "}",
    "deep fractions": "\\boxed{" + "\\frac{" * 90 + "1" + "}{2}" * 90 + "}",
    "open braces": "{" * 1_000_000,
    "open boxes": "\\boxed{" * 140_000,
    "many boxes": "\\boxed{1}" * 110_000,
    "open thinks": "<think>" * 140_000,
    "backslashes": "\\" * 1_000_000,
    "brackets": "<|" * 500_000,
    "null bytes": "\\boxed{\x00}",
    "lone surrogates": "\ud800\udfff \\boxed{\ud800}",
    "digits": "\\boxed{" + "9" * 1_000_000 + "}",
    "signs": "\\boxed{" + "-" * 1_900 + "1}",
    "not a number": "\\boxed{NaN}",
    "infinity": "\\boxed{inf}",
    "long list": "\\boxed{" + "1," * 900 + "1}",
    "long label": "\\boxed{" + "(a" * 29 + "! = 5}",
}


@pytest.mark.parametrize("name", sorted(_HOSTILE))
@pytest.mark.parametrize("gold", ["42", "x^2+1", "1,2,3", "B", "Paris", "5 cm"])
def test_a_hostile_response_costs_no_time_and_earns_nothing(name: str, gold: str) -> None:
    said = REWARD.fast(_HOSTILE[name], Problem(answer=gold))
    assert said is None or said.value == 0.0
    assert processor_s(lambda: REWARD.fast(_HOSTILE[name], Problem(answer=gold)), limit_s=0.3) < 0.3


def test_five_megabytes_of_reasoning_do_not_hide_the_answer() -> None:
    response = "word " * 1_000_000 + "\\boxed{42}"
    assert REWARD.fast(response, Problem(answer="42")) == Score(1.0, "scored", "exact")
    assert processor_s(lambda: REWARD.fast(response, Problem(answer="42")), limit_s=0.5) < 0.5


_SCRAPS = st.sampled_from(
    ["\\boxed{", "\\fbox {", "{", "}", "\\frac", "\\sqrt", "^", "_", "(", ")", "[", "]", ",", " and ", " or ", "=",
     "<", "\\pm", "\\text{", "1", "2.5", "x", "e", "%", "$", "5 cm", "!", "|", "\\{", "\\}", "\\cup", "三", "分之",
     "个", "\n", "</think>", "<think>", "<|im_end|>", "-", "/", "\\\\", "&", "\\begin{pmatrix}", "\\end{pmatrix}",
     "one", " half "]
)  # fmt: skip
_GOLDS = st.one_of(
    st.sampled_from(["42", "1/2", "28%", "B", "yes", "(1,2)", "\\{1,2\\}", "x=5", "[0,1)", "五"]),
    st.lists(_SCRAPS, min_size=1, max_size=8).map("".join),
    st.integers(),
    st.floats(),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_SCRAPS, max_size=30).map("".join), _GOLDS, st.sampled_from([None, "ocr", "count", "choice", "box"]))
def test_the_fast_step_never_raises(scraps: str, gold: Any, task: str | None) -> None:
    said = REWARD.fast(f"\\boxed{{{scraps}}}", Problem(answer=gold, task=task))
    assert said is None or said.value in (0.0, 1.0, None)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(min_size=1, max_size=20))
def test_any_text_is_scored_without_an_exception(response: str, gold: str) -> None:
    REWARD.fast(response, Problem(answer=gold))
    REWARD.fast(f"\\boxed{{{response}}}", Problem(answer=gold, choices=["a", gold]))


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_integers_are_exact_however_they_are_written(a: int, b: int) -> None:
    for written in (f"{a}", f"{a:,}", f"{a}.0", f"\\frac{{{2 * a}}}{{2}}", f"x = {a}"):
        assert score(written, str(b)).value == float(a == b)
        assert score(written, str(a)).value == 1.0
