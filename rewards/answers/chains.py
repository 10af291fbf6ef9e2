"""Chains of equations: ``3^2 + 4^2 = 9 + 16 = 25``, ``x = \\sqrt{10} \\approx 3.16``.

A chain counts by its last term, and by the exact one before the first ``\\approx``, but only if every link is true or
cannot be decided: with a link that is false it is an answer of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from rewards.answers.expressions import by_points
from rewards.answers.latex import TooLarge
from rewards.answers.quantity import Parsed, read_expression
from rewards.answers.values import inexact, numbers_equal

_ABOUT = re.compile("approx|about|roughly|约")
_ROUNDED = re.compile(
    r"(.*\S)\s*(?:\(|,|(?<![A-Za-z])or(?![A-Za-z]))\s*(?:or )?"
    r"(?:\\approx|approximately|approx\.?|about|roughly|约为?)\s*([^()]+)\)?"
)
MAX_TERMS = 50
_ROUGH = 0.01
"""Relative error of what is called approximate, when no decimal place says more."""


def chain(s: str, terms: Sequence[Parsed], signs: Sequence[str]) -> Parsed | None:
    """What a chain of at least one term counts as; None when it is an equation to solve. ``signs`` holds ``=`` and
    ``\\approx``, one fewer than the terms. Raises TooLarge for more than ``MAX_TERMS`` of them."""
    if len(terms) > MAX_TERMS:
        raise TooLarge
    terms = [(term.kind == "range" and read_expression(term.text)) or term for term in terms]  # here 9-4 is 5
    links = [_holds(a, b, sign) for a, b, sign in zip(terms, terms[1:], signs, strict=False)]
    if False in links:
        return Parsed("relation", s, ends="false")
    if links == [None] and signs[0] == "=":
        return None
    last = terms[-1]
    rough = (i for i, sign in enumerate(signs[: len(links)]) if sign != "=" or _is_rounded(terms[i], terms[i + 1]))
    exact = terms[next(rough, -1)]
    if exact.decimals is not None and last.decimals is None and last.value is not None:
        exact, last = last, exact  # "3.16 is about sqrt(10)"
    if exact is last or exact.kind not in {"number", "expr"}:
        return last
    if exact.unit is None and last.unit is not None:
        exact = replace(exact, unit=last.unit)
    return replace(exact, rounded=last if last.value is not None else None)


def approximated(s: str) -> str:
    """``s`` with a second figure, which only rounds the first, after ``\\approx``: "\\sqrt{10} (about 3.16)"."""
    match = _ROUNDED.fullmatch(s) if _ABOUT.search(s) else None
    return s if match is None else rf"{match.group(1)} \approx {match.group(2)}"


def _is_rounded(a: Parsed, b: Parsed) -> bool:
    """``1/3 = 0.333`` means ``\\approx``."""
    return isinstance(a.value, Fraction) and a.decimals is None and b.decimals is not None and a.value != b.value


def _holds(a: Parsed, b: Parsed, sign: str) -> bool | None:
    """Whether a link is true; None when it has unknowns, or terms that nothing can read."""
    if a.value is None or b.value is None:
        identical = a.node is not None and b.node is not None and by_points(a, b).equal
        return True if identical else None
    same = [numbers_equal(a, b), numbers_equal(b, a)]
    if any(outcome.equal is not False for outcome in same):
        return True
    return _near(a, b) if sign == r"\approx" and all(outcome.rule != "unit" for outcome in same) else False


def _near(a: Parsed, b: Parsed) -> bool:
    """Within one unit of the last place that either writes, or within one percent."""
    x, y = inexact(a.value or Fraction(0)), inexact(b.value or Fraction(0))
    places = [10.0**-number.decimals for number in (a, b) if number.decimals is not None and number.decimals < 300]
    return abs(x - y) <= max(*places, _ROUGH * abs(x), 0.0)
