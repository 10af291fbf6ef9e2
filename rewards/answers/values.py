"""Whether two values are equal, by the label rule for numbers.

* integers and fractions are exact; tolerance is relative, never absolute;
* a decimal gold accepts an exact value that rounds to it (2.24 and sqrt(5)) and a finer decimal (2.236), a gold that a
  computer printed (0.6666666666666666) what it stands for;
* a percentage is its value (28% = 0.28 = 7/25, whichever side has the sign), and a sign dropped or added beside the
  same figure is forgiven (28% and 28), unless the bare figure could be the ratio itself (0.28 is not 0.28%);
* units may be missing but not different.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import NamedTuple

from rewards.answers import latex
from rewards.answers.quantity import Parsed
from rewards.answers.units import same_unit


class Equality(NamedTuple):
    """``equal`` is None for "don't know"; ``rule`` is one word of a small vocabulary (it becomes a metric)."""

    equal: bool | None
    rule: str


RELATIVE = Fraction(1, 10**6)
"""Tolerance between a decimal and a number that is not whole."""
_COMPUTED, _COMPUTED_SHORT = Fraction(1, 10**12), Fraction(1, 10**7)
"""Tolerance of a reference that is a computer's floating-point number of 64 and of 32 bits."""
_FLOAT = 1e-9
"""Tolerance between two values of our own floating-point arithmetic."""


def numbers_equal(gold: Parsed, answer: Parsed, precision: int | None = None) -> Equality:
    """The rule for two numbers, with their units and percent signs."""
    g, a = gold.value, answer.value
    if g is None or a is None:
        return Equality(None, "number")
    factor = same_unit(gold.unit, answer.unit)
    if factor is None or (gold.percent and _measured(answer)) or (answer.percent and _measured(gold)):
        return Equality(False, "unit")
    if isinstance(g, complex) or isinstance(a, complex):
        return Equality(near(complex(inexact(g)), complex(inexact(a))), "number")
    if factor != 1:
        a = a * factor if isinstance(a, Fraction) else a * float(factor)  # factors of units are small
    if not gold.percent and not answer.percent:
        return Equality(_close(g, a, gold, answer, precision), "number" if factor == 1 else "unit")
    if gold.percent and answer.percent:
        return Equality(_close(g, a, gold, answer, precision), "percent")
    bare: Fraction | float = a if gold.percent else g
    if not -1 < bare < 1 and _close(g, a, gold, answer, precision):
        return Equality(True, "percent")
    # Only the figure with the sign is a percentage: compare in hundredths, where the gold's decimals keep their place.
    if gold.percent:
        return Equality(_close(g, a * 100, gold, answer, precision), "percent")
    return Equality(_close(g, a / 100, gold, answer, precision), "percent")


def _measured(number: Parsed) -> bool:
    return number.unit is not None and bool(number.unit.dimension or number.unit.words)


def decimal_comma(gold: Parsed, answer: Parsed) -> bool:
    """European notation, accepted only where it can be nothing else: the gold is a decimal and the figures agree."""
    if gold.decimals is None or not gold.plain or answer.kind not in {"list", "number"}:
        return False
    head, comma, tail = answer.text.replace(" ", "\0").partition(",")
    whole = head.replace(".", "")
    if not (comma and tail.isdecimal() and whole.lstrip("-").isdecimal()):
        return False
    if answer.kind == "number" and len(tail) == 3 and whole.lstrip("-") != "0":
        return False
    return Fraction(f"{whole}.{tail}") == gold.value


def _close(
    g: Fraction | float, a: Fraction | float, gold: Parsed, answer: Parsed, precision: int | None
) -> bool | None:
    if precision is not None:
        if isinstance(g, Fraction) and isinstance(a, Fraction):
            return _rounded(g, precision) == _rounded(a, precision)
        return _rounded(_exact(g), precision) == _rounded(_exact(a), precision)
    if isinstance(g, Fraction) and isinstance(a, Fraction):
        if g == a or (gold.plain >= 10 and abs(g - a) <= _computed(gold) * abs(g)):
            return True
        if answer.decimals is None and not (answer.percent and answer.node is not None and answer.node[0] == "num"):
            # An exact value against a decimal gold: it must round to it.
            return _rounds_to(a, g, gold)
        if (
            gold.decimals is not None
            and gold.plain >= 2
            and (answer.decimals or 0) > gold.decimals
            and _rounds_to(a, g, gold)
        ):
            # A finer decimal than the gold's, when the gold has enough digits to look rounded.
            return abs(g) * Fraction(10) ** gold.decimals >= 10
        if g.denominator == 1 or a.denominator == 1:
            return False
        if gold.decimals == answer.decimals:
            return False  # the same number of places: the figures themselves are the answer
        return abs(g - a) <= RELATIVE * abs(g)
    inexact_g, inexact_a = inexact(g), inexact(a)
    close = near(inexact_g, inexact_a)
    if close is not False or not math.isfinite(abs(inexact_g)) or not math.isfinite(abs(inexact_a)):
        return close
    if isinstance(g, Fraction):
        return _rounds_to(_exact(a), g, gold)
    # An exact irrational gold against a figure: the figure must agree to six digits.
    return answer.decimals is not None and abs(inexact_g - inexact_a) <= 1e-6 * abs(inexact_g)


def _computed(gold: Parsed) -> Fraction:
    """The tolerance of a decimal with as many digits as a computer prints, of 64 bits (0.6666666666666666) or of 32
    (0.6666666865348816); else 0."""
    if sum(c.isdigit() for c in gold.text.lstrip("-0.")) < 14:
        return Fraction(0)
    value = inexact(gold.value or Fraction(0))
    short = isinstance(value, float) and abs(value) < 1e30 and struct.unpack("f", struct.pack("f", value))[0] == value
    return _COMPUTED_SHORT if short else _COMPUTED


def _rounds_to(value: Fraction, g: Fraction, gold: Parsed) -> bool:
    return gold.decimals is not None and gold.plain > 0 and g != 0 and _rounded(value, gold.decimals) == g


def _rounded(x: Fraction, places: int) -> Fraction:
    """Half away from zero, as people round."""
    scale = Fraction(10) ** max(-400, min(400, places))
    scaled = abs(x) * scale
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return Fraction(whole if x >= 0 else -whole) / scale


def _exact(x: Fraction | float) -> Fraction:
    """A float as the decimal it prints as: 0.145 stays 0.145."""
    return x if isinstance(x, Fraction) else Fraction(repr(x))


def inexact(x: latex.Number) -> float | complex:
    """The number as a float; infinite when it is too large for one."""
    if not isinstance(x, Fraction):
        return x
    try:
        return float(x)
    except OverflowError:
        return math.inf if x > 0 else -math.inf


def near(g: float | complex, a: float | complex) -> bool | None:
    """Whether two floats are equal up to rounding; None when floats cannot tell."""
    if g == a:
        return True
    big_g, big_a = not math.isfinite(abs(g)), not math.isfinite(abs(a))
    if big_g or big_a:
        return None if big_g and big_a else False
    gap = abs(g - a)
    if gap <= _FLOAT * max(abs(g), abs(a)):
        return True
    # Zero against rounding noise: floating point cannot tell.
    return None if gap < 1e-12 and (abs(g) < 1e-12 or abs(a) < 1e-12) and (g == 0 or a == 0) else False
