"""Sets of real numbers have one form, however they are described."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.answers.compare import compare
from rewards.answers.realset import ALL, RealSet, contains, difference, intersection, real_set, union
from rewards.answers.structure import read

_PLACES = [n / 2 for n in range(-12, 13)]


def sets() -> st.SearchStrategy[str]:
    number = st.integers(-5, 5)
    interval = st.tuples(st.sampled_from("(["), number, st.integers(1, 5), st.sampled_from(")]")).map(
        lambda t: f"{t[0]}{t[1]},{t[1] + t[2]}{t[3]}"
    )
    ray = st.tuples(st.sampled_from(["<", ">", "\\le", "\\ge", "\\ne"]), number).map(lambda t: f"x {t[0]} {t[1]}")
    return st.one_of(interval, ray)


def described(text: str) -> RealSet:
    found = real_set(read(text))
    assert found is not None
    return found


@given(sets(), sets())
def test_set_operations_do_to_every_number_what_their_names_say(one: str, other: str) -> None:
    a, b = described(one), described(other)
    for x in _PLACES:
        assert contains(union(a, b), x) == (contains(a, x) or contains(b, x))
        assert contains(intersection(a, b), x) == (contains(a, x) and contains(b, x))
        assert contains(difference(a, b), x) == (contains(a, x) and not contains(b, x))


@given(sets(), sets())
def test_pieces_never_touch_and_taking_away_twice_gives_the_set_back(one: str, other: str) -> None:
    a, b = described(one), described(other)
    pieces = union(a, b)
    assert all(left.stop[0] <= right.start[0] for left, right in pairwise(pieces))
    assert [contains(difference(ALL, difference(ALL, a)), x) for x in _PLACES] == [contains(a, x) for x in _PLACES]


@pytest.mark.parametrize(
    "texts",
    [
        ["(0,2)\\cup(2,\\infty)", "x>0 \\text{ and } x \\neq 2", "x > 0, x \\ne 2", "(0,\\infty)\\setminus\\{2\\}"],
        ["x \\ne -1", "all real numbers except -1", "\\mathbb{R} - \\{-1\\}", "(-\\infty,-1)\\cup(-1,\\infty)"],
        ["x<1 \\lor x>5", "x < 1, x > 5", "(-\\infty,1)\\cup(5,\\infty)", "\\{x \\mid x<1 \\text{ or } x>5\\}"],
    ],
)
def test_every_description_of_a_set_is_the_same_set(texts: list[str]) -> None:
    assert all(compare(read(gold), read(answer)).equal for gold in texts for answer in texts)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("(7,2)", "\\emptyset"),  # a point
        ("(0,2)\\cup(2,\\infty)", "x > 0"),
        ("x<1 \\lor x>5", "x<1 \\land x>5"),
        ("x \\ne 3", "y \\ne 3"),
        ("[0,1)\\cup(1,2]", "[0,2]"),
    ],
)
def test_another_set_is_different(gold: str, answer: str) -> None:
    assert compare(read(gold), read(answer)).equal is False
