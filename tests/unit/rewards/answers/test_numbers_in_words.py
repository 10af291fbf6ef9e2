"""Numbers inside words: what may stand beside a number, and what makes it another answer."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.answers import words
from rewards.answers.nouns import CHANGES
from rewards.answers.sentence import names, stated
from rewards.answers.structure import read
from rewards.answers.units import parse_unit, same_unit


def factor(gold: str, answer: str) -> Fraction | None:
    return same_unit(parse_unit(gold), parse_unit(answer))


@pytest.mark.parametrize(
    ("gold", "answer", "size"),
    [
        ("m", "cm", "1/100"),
        ("MW", "mW", "1e-9"),  # milli is no mega
        ("N", "kg·m/s^2", "1"),
        ("W", "J/s", "1"),
        ("J/(kg·K)", "J kg^{-1} K^{-1}", "1"),
        ("m/s", "ms^{-1}", "1"),
        ("m/s", "km/h", "5/18"),
        ("ha", "m^2", "1/10000"),
        ("mol/L", "M", "1"),
        ("degrees", "'", "1/60"),
        ("ft", "'", "1"),
        ("apples", "red apples", "1"),
        ("apples", "个", "1"),
    ],
)
def test_a_unit_is_worth_its_size_in_another(gold: str, answer: str, size: str) -> None:
    assert factor(gold, answer) == Fraction(size)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [("m", "s"), ("m", "m^2"), ("N", "J/s"), ("US$", "A$"), ("apples", "pears"), ("'", "kg"), ("m", "M")],
)
def test_different_units_have_no_factor(gold: str, answer: str) -> None:
    assert factor(gold, answer) is None


@pytest.mark.parametrize("word", sorted(CHANGES - {"pi", "infinity", "percent", "decimal", "times"}))
def test_a_word_that_computes_or_bounds_is_no_unit(word: str) -> None:
    assert read(f"7 {word}").value != 7


@pytest.mark.parametrize("text", ["marbles", "people", "hours to finish the race", "of them", "dollars a day", "ways"])
def test_what_is_counted_is_an_open_class_of_plurals(text: str) -> None:
    assert read(f"7 {text}").value == 7


@pytest.mark.parametrize("text", ["factorial", "binary", "onwards", "tripled", "a", "to the power", "the answer"])
def test_what_is_no_plural_counts_nothing(text: str) -> None:
    assert read(f"7 {text}").value != 7


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("There are 42 apples in total", "42 apples in total"),
        ("The total cost is about $5", "$5"),
        ("I see three cats", "three cats"),
        ("42 is the answer", "42"),
        ("So 12", "12"),
        ("面积为36平方厘米", "36平方厘米"),
        ("The answer is not 5", None),
        ("half of it is 7", None),
        ("it could be 7", None),
        ("the square of 7", None),
        ("面积不是36", None),
        ("周长小于20", None),
    ],
)
def test_a_sentence_states_its_value_in_an_approved_frame_only(sentence: str, value: str | None) -> None:
    assert stated(sentence) == value


def test_a_subject_that_computes_is_no_name() -> None:
    assert names("the area")
    assert not names("half of x")
    assert not names("if x")


_ONES = ["", *"one two three four five six seven eight nine".split()]  # noqa: SIM905
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()  # noqa: SIM905
_TENS = ["", "", *"twenty thirty forty fifty sixty seventy eighty ninety".split()]  # noqa: SIM905


def spelled(n: int) -> str:
    if n >= 1000:
        return f"{spelled(n // 1000)} thousand {spelled(n % 1000) if n % 1000 else ''}".strip()
    if n >= 100:
        return f"{_ONES[n // 100]} hundred {spelled(n % 100) if n % 100 else ''}".strip()
    if n >= 20:
        return f"{_TENS[n // 10]} {_ONES[n % 10]}".strip()
    return _TEENS[n - 10] if n >= 10 else _ONES[n]


@given(st.integers(1, 999_999))
def test_a_spelled_number_is_read_whole(n: int) -> None:
    assert words.english(f"{spelled(n)} apples") == (n, "apples")


@given(st.integers(1, 99), st.integers(1, 99))
def test_two_numbers_side_by_side_are_not_the_first(a: int, b: int) -> None:
    assert read(f"{a} {spelled(b)}").value is None


@given(st.text(max_size=40))
def test_any_text_is_a_unit_or_none(text: str) -> None:
    parse_unit(text)
    stated(text)
