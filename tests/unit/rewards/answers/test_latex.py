"""The calculator: exact where it can be, silent where it cannot read, never expensive."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.answers.arithmetic import Point, evaluate
from rewards.answers.latex import TooLarge, Unreadable, parse, symbols
from rewards.answers.points import features, points
from tests.fakes.clock import processor_s


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("-3^2", -9),
        ("2^{3^2}", 512),
        ("\\frac12", Fraction(1, 2)),
        ("\\frac{1}{2}^2", Fraction(1, 4)),
        ("11 5/6", Fraction(71, 6)),
        ("2\\frac{1}{2}", Fraction(5, 2)),
        ("-2 1/2", Fraction(-5, 2)),
        ("2\\cdot\\frac{1}{2}", 1),
        ("0.1+0.2", Fraction(3, 10)),
        ("5!", 120),
        ("\\binom{5}{2}", 10),
        ("\\sqrt{16}", 4),
        ("\\sqrt[3]{27}", 3),
        ("\\sqrt[3]{-8}", -2),
        ("4^{1/2}", 2),
        ("\\log_2 8", 3),
        ("\\lfloor 2.7 \\rfloor", 2),
        ("|-3|", 3),
        ("1.6 x 10^{-3}", Fraction(16, 10000)),
    ],
)
def test_exact_values(text: str, value: Fraction) -> None:
    found = evaluate(parse(text))
    assert isinstance(found, Fraction)
    assert found == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2\\sqrt{3}", 2 * math.sqrt(3)),
        ("\\sin(\\pi/6)", 0.5),
        ("e^2", math.e**2),
        ("\\ln 2", math.log(2)),
        ("\\sin^{-1} 1", math.pi / 2),
        ("3 + 4i", 3 + 4j),
    ],
)
def test_inexact_values(text: str, value: complex) -> None:
    assert evaluate(parse(text)) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", "2 3", "H2O", "Paris", "1/", "(1", "1)", "\\unknown{1}", "x^", "\\frac{1}", "1..2"]
)
def test_what_is_no_expression_is_not_read(text: str) -> None:
    with pytest.raises(Unreadable):
        parse(text)


@pytest.mark.parametrize("text", ["1/0", "0^{-1}", "\\ln 0", "(-1)!"])
def test_what_has_no_value_gets_none(text: str) -> None:
    with pytest.raises(Unreadable):
        evaluate(parse(text))


@pytest.mark.parametrize(
    "text", ["9^{9^{9^9}}", "10^{10^{10}}", "(2^{9999})^{9999}", "99999!", "\\binom{999999}{500000}", "1e99999"]
)
def test_what_costs_too_much_is_refused_at_once(text: str) -> None:
    def refused() -> None:
        with pytest.raises(TooLarge):
            evaluate(parse(text))

    assert processor_s(refused, limit_s=0.3) < 0.3


def test_unknowns_take_the_same_values_in_every_process() -> None:
    assert symbols(parse("a x_1 + \\theta")) == {"a", "x_1", "\\theta"}
    # 3/4 * (64 + 11 * i) / 64 for the i-th name: no hash seed enters
    first = next(points(features([parse("x + y")])))
    assert first == {"x": Fraction(3, 4), "y": Fraction(3, 4) * Fraction(75, 64)}


@given(st.text(alphabet="0123456789+-*/^(){}[]!|.,xyeip \\_%", max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    try:
        node = parse(text)
        evaluate(node, Point(dict.fromkeys(symbols(node), 0.7)))
    except (Unreadable, TooLarge):
        pass
