"""The answer rules of benchmarks, on answers whose right value is known by hand."""

from __future__ import annotations

from typing import Any

import pytest

from rewards.benchmark import BenchmarkAnswer, final_text
from sailrl.errors import ConfigError
from sailrl.types import Problem


def value(response: str, answer: Any, task: str | None = None, **settings: Any) -> float | None:
    return BenchmarkAnswer(**settings)(response, Problem(answer=answer, task=task)).value


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("<think>\nanswer: 3\n</think>\nSo \\boxed{4}.", "4"),
        ("Paris", "Paris"),
        ("Some words.\nAnswer: Paris", "Paris"),
        ("Some words.\n**The final answer is:** 12 cm", "12 cm"),
        ("Two lines\nwithout an answer", None),
        ("<think> never ends", None),
        ("x" * 300, None),
        ("", None),
    ],
)
def test_the_final_answer_is_the_box_the_last_line_or_a_short_response(response: str, text: str | None) -> None:
    assert final_text(response)[0] == text


def test_an_answer_without_a_box_is_compared_by_meaning_too() -> None:
    assert value("0.50", "1/2") == 1.0
    assert value("Two lines\n0.5", "1/2") == 0.0
    assert value("Answer: B", "B", task="choice") == 1.0
    assert value("(B) whale", "B", task="choice") == 1.0
    assert value("A", "B", task="choice") == 0.0
    assert value("Yes, it is.", "Yes", task="yes_no") == 1.0


def test_one_of_several_reference_answers_is_enough_only_where_they_are_alternatives() -> None:
    assert value("\\boxed{3}", ["2", "3"], alternatives=True) == 1.0
    assert value("\\boxed{3}", ["2", "3"]) == 0.0
    assert value("x", [], alternatives=True) is None


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("Kitten", 1.0),
        ("sitten", 1 - 1 / 6),  # one letter of six
        ("sitting", 1 - 3 / 7),  # three edits of seven letters: 0.571
        ("mitigate", 0.0),  # five edits of eight letters: 0.375 is below 0.5
        (" kitten ", 1.0),
    ],
)
def test_anls_is_one_less_the_edit_distance_over_the_longer_length(answer: str, wanted: float) -> None:
    assert value(answer, "kitten", rule="anls") == pytest.approx(wanted)
    assert value(answer, ["dog", "kitten"], rule="anls", alternatives=True) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("104", "100", True),  # 4% off
        ("106", "100", False),
        ("1,050", "1000", True),
        ("12%", "0.12", True),
        ("$4.1", "4", True),
        ("0", "0", True),
        ("0.01", "0", False),
        ("Brazil.", "brazil", True),
        ("Brasil", "brazil", False),
        ("2010 and 2012", "2010", False),
    ],
)
def test_relaxed_takes_numbers_within_five_percent(answer: str, gold: str, right: bool) -> None:
    assert value(answer, gold, rule="relaxed") == float(right)


def test_contains_looks_for_the_reference_answer_without_case_or_for_formulas_without_spaces() -> None:
    assert value("The sign says CENTRE Street", "centre", rule="contains") == 1.0
    assert value("The sign says center", "centre", rule="contains") == 0.0
    assert value("\\frac{a}{ b }", "\\frac{a} {b}", task="formula", rule="contains") == 1.0


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="rule is 'exact', but it is one of same, anls, relaxed, contains"):
        BenchmarkAnswer(rule="exact")  # type: ignore[arg-type]
