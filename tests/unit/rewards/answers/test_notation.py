"""Numbers in notations of their own, read whole or not at all."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.answers.notation import date, ratio, read_notation, time_of_day
from rewards.answers.structure import read


@given(st.integers(1, 10**6), st.sampled_from([2, 3, 8, 16]))
def test_a_number_in_another_base_is_one_answer_in_every_spelling(n: int, base: int) -> None:
    digits, rest = "", n
    while rest:
        digits, rest = "0123456789abcdef"[rest % base] + digits, rest // base
    name = {2: "two", 3: "three", 8: "eight", 16: "sixteen"}[base]
    spellings = (
        f"{digits}_{base}",
        f"({digits})_{{{base}}}",
        f"{digits.upper()}_{{ {name} }}",
        f"{digits} base {base}",
    )
    if len(digits) > 1 or digits.isdecimal():  # "a_{16}" is an unknown
        assert {read(spelling).text for spelling in spellings} == {f"{digits.upper()}_{base}"}


@given(st.integers(1, 99), st.integers(1, 99), st.integers(2, 9))
def test_a_ratio_does_not_change_with_a_common_factor(a: int, b: int, factor: int) -> None:
    one, scaled, other = ratio(f"{a}:{b}"), ratio(f"{a * factor}:{b * factor}"), ratio(f"{a + 1}:{b}")
    assert one is not None
    assert scaled is not None
    assert other is not None
    assert one[0] == scaled[0] != other[0]


@given(st.integers(0, 359), st.integers(0, 59), st.integers(0, 59))
def test_degrees_minutes_and_seconds_add_up(degrees: int, minutes: int, seconds: int) -> None:
    found = read(f"{degrees}°{minutes}′{seconds}″")
    assert found.value == degrees + Fraction(minutes, 60) + Fraction(seconds, 3600)


@pytest.mark.parametrize("text", ["2023-05-01", "May 1, 2023", "1st of May 2023", "2023年5月1日", "Monday, 1 May 2023"])
def test_a_date_is_the_same_day_in_every_spelling(text: str) -> None:
    assert date(text) == (2023, 5, 1)


@pytest.mark.parametrize("text", ["5/6/2023", "11 marbles", "May", "2023", "5 novels", "12:30"])
def test_what_is_no_date_or_might_be_two_is_none(text: str) -> None:
    assert date(text) is None


def test_a_time_of_day_is_known_only_when_its_half_of_the_day_is() -> None:
    assert time_of_day("3:30 pm") == time_of_day("15:30") == (15 * 60 + 30) * 60
    assert time_of_day("3:30") is None
    assert time_of_day("12:00 am") == time_of_day("0:00") == 0


@pytest.mark.parametrize("text", ["3-5", "3 to 5", "from 3 to 5", "between 3 and 5", "3~5", "3至5"])
def test_a_range_is_its_two_ends(text: str) -> None:
    found = read_notation(text)
    assert found is not None
    assert (found.kind, [item.value for item in found.items]) == ("range", [3, 5])


@pytest.mark.parametrize("text", ["5.5-3.2", "between 3", "3 and 5", "-3-5", "x-5"])
def test_what_is_no_range_is_none(text: str) -> None:
    assert read_notation(text) is None


@given(st.text(alphabet="0123456789-~:'\"°_(){}①② abtofromdh", max_size=30))
def test_any_text_is_read_or_none(text: str) -> None:
    read_notation(text)
    ratio(text)
    date(text)
    time_of_day(text)
