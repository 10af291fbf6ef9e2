"""Expressions are equal when they agree wherever they can be compared, and at enough places."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.answers.applied import functions, letters
from rewards.answers.expressions import proportional, same
from rewards.answers.latex import TooLarge, parse
from rewards.answers.points import features, points
from rewards.answers.tokens import known
from rewards.boxed import BoxedAnswer
from sailrl.types import Problem
from tests.fakes.clock import processor_s


def test_a_corner_is_looked_at_from_both_sides_wherever_it_lies() -> None:
    for corner in ("9", "500", "12345", "0.001"):
        node = parse(f"|x-{corner}|")
        places: list[Any] = [point["x"] for point in points(features([node]))]
        assert any(0 < place - Fraction(corner) < 1 for place in places)
        assert any(-1 < place - Fraction(corner) < 0 for place in places)
        assert same(node, parse(f"|{corner}-x|")) is True
        assert same(node, parse(f"x-{corner}")) is False


def test_large_expressions_are_compared_at_fewer_points() -> None:
    small, large = features([parse("|x|")]), features([parse("+".join(["|x-1.5|"] * 240))])
    assert len(list(points(large))) < len(list(points(features([parse("|x-1.5|")]))))
    assert len(list(points(small))) >= 20


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("\\log_5(mn)", "\\log_5 m+\\log_5 n", True),  # the answer has no value for two negative numbers
        ("\\ln|x|", "\\ln x", False),  # an absolute value is there to cover negative numbers
        ("\\frac{x^2-1}{x-1}", "x+1", True),  # no value at a single place
        ("\\cosh^2 x - \\sinh^2 x", "1", True),  # far out all digits cancel: that says nothing
        ("\\cos(\\arccos x)", "(-1)^n", None),  # equal where both can be compared, at one place in two
        ("\\frac{n!}{(n-2)!}", "n(n-1)", True),
        ("x^{5000}", "x^{5001}", False),
        ("x + 10^{-12}", "x", False),
    ],
)
def test_what_is_undefined_or_rounded_decides_nothing_alone(gold: str, answer: str, verdict: bool | None) -> None:
    assert same(parse(gold), parse(answer)) is verdict


_POLYNOMIALS = st.lists(st.integers(-9, 9), min_size=2, max_size=5).filter(lambda c: any(c[1:]))


@settings(deadline=None)
@given(_POLYNOMIALS, st.integers(1, 9))
def test_a_polynomial_equals_itself_in_any_form_and_no_other(coefficients: list[int], step: int) -> None:
    powers = "+".join(f"({c})x^{{{n}}}" for n, c in enumerate(coefficients))
    nested = "0"
    for c in reversed(coefficients):
        nested = f"({nested})x+({c})"
    assert same(parse(powers), parse(nested)) is True
    assert same(parse(powers), parse(f"{nested}+{step}")) is False
    assert same(parse(f"|{powers}|"), parse(f"|-({nested})|")) is True
    assert proportional(parse(powers), parse(f"{step}({nested})")) is True


def test_what_costs_too_much_at_every_point_is_refused() -> None:
    with pytest.raises(TooLarge):
        same(parse("x \\cdot 9^{99999}"), parse("9^{99999} x"))


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("f(g(x))", "g(f(x))", {"f", "g"}),
        ("u(v(x))", "v(u(x))", {"u", "v"}),
        ("x(x+1)", "x^2+x", set()),
        ("h(a+b)/2", "(ah+bh)/2", set()),
        ("T(n-1)+T(n-2)", "T(2n-3)", {"T"}),
        ("k(x-1)(x-3)", "k(x^2-4x+3)", set()),
        ("f^{-1}(x)", "1/f(x)", {"f", "f^-1"}),
        ("E[X+Y]", "E[X]+E[Y]", {"E"}),
    ],
)
def test_a_letter_before_a_bracket_is_a_function_only_where_no_product_fits(
    gold: str, answer: str, expected: set[str]
) -> None:
    assert functions(gold, answer) == expected


@given(st.text(alphabet="fgx()[]{}^-1,+'_ ", max_size=40))
def test_looking_for_functions_never_raises(text: str) -> None:
    letters(text)


@pytest.mark.parametrize(
    "text", ["\\sum_{k=1}^{4} k", "\\int_0^1 2x dx", "\\frac{d}{dx} x", "2^{10}", "\\lim_{x\\to 0} x"]
)
def test_known_mathematics_may_go_to_sympy(text: str) -> None:
    assert known(text)


@pytest.mark.parametrize(
    "text", ["\\det(M) 9", "2 \\star 4", "open('x') * 8", "foo(9)", "3 \\oplus 8", "\\sum 5", "\\partial 2"]
)
def test_what_cannot_be_read_whole_never_goes_to_sympy(text: str) -> None:
    assert not known(text)


_GOLDS = ("|x-9|", "x^2+C", "(a) 7 (b) 2", "p \\land q", "(0,2)\\cup(2,\\infty)", "2k\\pi, k\\in\\mathbb{Z}", "f(x)")
_TOKENS = (
    "|x-1.234|+", "\\lfloor x/7\\rfloor+", "\\sqrt{x+3}+", "(a) 7 (b) ", "p \\land ", "(p \\land ", "x\\ne 3, ",
    "x>1, ", "all reals except ", "where x>1 ", "for all n ", "n!", "C_7^3+", "C_{7}^{", "f(f(x))+", "T(n-1)+",
    "x_1=1, ", "\\begin{cases}", "\\begin{cases}x&x>0\\\\", "\\begin{aligned}1\\end{aligned}", "\\mathbf{i}+",
    "\\langle 1,", "A: 7, ",
)  # fmt: skip


@pytest.mark.parametrize("token", _TOKENS)
def test_a_box_full_of_one_form_is_decided_at_once(token: str) -> None:
    boxed, repeated = BoxedAnswer(), token * (1900 // len(token))
    for gold in _GOLDS:
        for form in ("%s", "%s1", "x=%s"):
            text, problem = f"\\boxed{{{form % repeated}}}", Problem(answer=gold)
            assert processor_s(partial(boxed.fast, text, problem), limit_s=0.3) < 0.3
