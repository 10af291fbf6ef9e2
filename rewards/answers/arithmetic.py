"""The value of a parsed expression: exact for rational arithmetic (``Fraction``), floating point for everything else.

Unknowns take fixed values, so two expressions are compared by their values at a few points. What has no finite value
is ``Unreadable``, what would cost too much to compute is ``TooLarge``.
"""

from __future__ import annotations

import cmath
import math
import zlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from rewards.answers.latex import MAX_DIGITS, Node, Number, TooLarge, Unreadable

_MAX_BITS = int(MAX_DIGITS * 3.33)


class Point(dict[str, Number]):
    """Values of the unknowns, and how many leading digits the sums computed with them have cancelled."""

    lost = 1.0
    """The largest ratio of a floating-point term to the sum it stood in."""
    left_reals = False
    """Whether a root, a power or a function had no real value on the way."""


def evaluate(node: Node, point: Point | None = None) -> Number:
    """The value of ``node``. Raises Unreadable where it has none and TooLarge where it costs too much."""
    try:
        result = _value(node, Point() if point is None else point)
    except (ArithmeticError, ValueError, TypeError) as error:  # TypeError: sin(3, 4)
        raise Unreadable from error
    if isinstance(result, complex):
        if not (math.isfinite(result.real) and math.isfinite(result.imag)):
            raise Unreadable
        if abs(result.imag) <= 1e-14 * abs(result):
            return result.real
    elif isinstance(result, float) and not math.isfinite(result):
        raise Unreadable
    return result


def _value(node: Node, values: Point) -> Number:
    kind = node[0]
    if kind == "num":
        return node[1]
    if kind == "sym":
        return values[node[1]] if node[1] in values else _refuse()
    if kind == "const":
        return {"pi": math.pi, "e": math.e, "i": 1j}[node[1]]
    if kind == "sum":
        total = _value(node[1][0], values)
        for child in node[1][1:]:
            term = _value(child, values)
            before, total = total, _small(total + term)
            if not isinstance(total, Fraction):
                largest, left = max(abs(_inexact(before)), abs(_inexact(term))), abs(total)
                if largest > values.lost * left:
                    values.lost = largest / left if left else math.inf
        return total
    if kind == "neg":
        return -_value(node[1], values)
    if kind == "call":
        args = [_value(arg, values) for arg in node[2]]
        if node[1][0] == "@":
            return _unknown(node[1], args)
        result = _CALLS[node[1]](*args) if node[1] in _CALLS else _refuse()
        values.left_reals = values.left_reals or isinstance(result, complex)
        return result
    a, b = _value(node[1], values), _value(node[2], values)
    if kind == "mul":
        return _small(a * b)
    if kind == "div":
        return _small(a / b)
    result = _power(a, b)
    values.left_reals = values.left_reals or isinstance(result, complex)
    return result


def _refuse() -> Number:
    raise Unreadable


def _unknown(name: str, args: list[Number]) -> Number:
    """One value per name and arguments, for a function of which nothing is known: smooth, one-to-one in each argument,
    and true to no identity (not linear, not symmetric)."""
    total: float | complex = 1 + zlib.crc32(name.encode("utf-8", "replace")) % 9973 / 9973
    for i, arg in enumerate(args):
        total += (0.7390851 + 0.4142136 * i) * cmath.asinh(complex(_inexact(arg)) * (total.real + 0.2718282))
    return total.real if total.imag == 0 else total


def _small(x: Number) -> Number:
    if isinstance(x, Fraction) and x.numerator.bit_length() + x.denominator.bit_length() > 2 * _MAX_BITS:
        raise TooLarge
    return x


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            n = abs(exponent.numerator)
            if (
                base not in (0, 1, -1)
                and n * max(base.numerator.bit_length(), base.denominator.bit_length()) > _MAX_BITS
            ):
                raise TooLarge
            return base**exponent.numerator
        if base >= 0 and exponent.denominator <= 64:
            return _power(_root(base, Fraction(exponent.denominator)), Fraction(exponent.numerator))
    if isinstance(exponent, Fraction) and exponent.denominator == 1 and abs(exponent.numerator) > 10**6:
        raise Unreadable
    result = _inexact(base) ** _inexact(exponent)
    return result


def _inexact(x: Number) -> float | complex:
    return float(x) if isinstance(x, Fraction) else x


def _root(x: Number, index: Number) -> Number:
    if isinstance(index, Fraction) and index.denominator == 1 and 0 < index.numerator <= 64:
        n = index.numerator
        if isinstance(x, Fraction) and (x >= 0 or n % 2):
            sign = -1 if x < 0 else 1
            top, bottom = _whole_root(abs(x.numerator), n), _whole_root(x.denominator, n)
            if top is not None and bottom is not None:
                return Fraction(sign * top, bottom)
            return float(sign * _inexact(abs(x)) ** (1 / n))  # type: ignore[arg-type]
        if isinstance(x, float) and x < 0 and n % 2:
            return float(-((-x) ** (1 / n)))
        if n == 2:
            return cmath.sqrt(_inexact(x)) if isinstance(x, complex) or x < 0 else math.sqrt(x)
    return _power(_inexact(x), 1 / _inexact(index))


def _whole_root(x: int, n: int) -> int | None:
    """The integer n-th root of x when it is exact."""
    if n == 2:
        root = math.isqrt(x)
    elif x.bit_length() > 900:
        return None
    else:
        root = round(x ** (1 / n))
    return root if root**n == x else None


def _factorial(x: Number) -> Number:
    if not isinstance(x, Fraction) or x.denominator != 1 or x < 0:
        raise Unreadable
    if x > 3249:  # 3249! is the last with at most 10,000 digits
        raise TooLarge
    return Fraction(math.factorial(x.numerator))


def _binomial(n: Number, k: Number) -> Number:
    if not (isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1):
        raise Unreadable
    if n < 0 or k < 0:
        raise Unreadable
    if n > 30_000:  # C(n, n/2) has about 0.3 n digits
        raise TooLarge
    return Fraction(math.comb(n.numerator, k.numerator))


def _permutations(n: Number, k: Number) -> Number:
    return _binomial(n, k) * _factorial(k)


def _sign(x: Number) -> Number:
    if isinstance(x, complex):
        raise Unreadable
    return Fraction((x > 0) - (x < 0))


def _log(x: Number, base: Number = Fraction(10)) -> Number:
    if isinstance(x, Fraction) and isinstance(base, Fraction) and x > 0 and base > 1:
        guess = round(_ln(x) / _ln(base))
        if abs(guess) <= 64 and base**guess == x:
            return Fraction(guess)
        return _ln(x) / _ln(base)
    return cmath.log(_inexact(x)) / cmath.log(_inexact(base))


def _ln(x: Number) -> float:
    if isinstance(x, Fraction):
        return math.log(x.numerator) - math.log(x.denominator)
    return math.log(x)  # type: ignore[arg-type]


def _natural(x: Number) -> Number:
    if isinstance(x, complex) or x <= 0:
        return cmath.log(_inexact(x))
    return Fraction(0) if x == 1 else _ln(x)


def _integers(combine: Callable[..., int]) -> Callable[..., Number]:
    def call(*xs: Number) -> Number:
        if not all(isinstance(x, Fraction) and x.denominator == 1 for x in xs):
            raise Unreadable
        return Fraction(combine(*(x.numerator for x in xs)))  # type: ignore[union-attr]

    return call


def _ordered(choose: Callable[..., Any]) -> Callable[..., Number]:
    def call(*xs: Number) -> Number:
        if len(xs) < 2 or any(isinstance(x, complex) for x in xs):
            raise Unreadable  # "max 7" is a bound
        return choose(*xs)

    return call


def _real(function: Callable[[Any], Any]) -> Callable[..., Number]:
    def call(x: Number) -> Number:
        if isinstance(x, complex):
            raise Unreadable
        return Fraction(function(x))

    return call


def _float(function: Callable[[complex], complex]) -> Callable[[Number], Number]:
    def call(x: Number) -> Number:
        value = function(complex(_inexact(x)))
        return value.real if not isinstance(x, complex) and abs(value.imag) <= 1e-15 * abs(value) else value

    return call


_CALLS: dict[str, Callable[..., Number]] = {
    "factorial": _factorial,
    "binomial": _binomial,
    "permutations": _permutations,
    "sgn": _sign,
    "max": _ordered(max),
    "min": _ordered(min),
    "root": _root,
    "abs": abs,
    "floor": _real(math.floor),
    "ceil": _real(math.ceil),
    "gcd": _integers(math.gcd),
    "lcm": _integers(math.lcm),
    "log": _log,  # without a base: to base 10, on both sides alike
    "lg": _log,
    "ln": _natural,
    "exp": _float(cmath.exp),
    "sin": _float(cmath.sin),
    "cos": _float(cmath.cos),
    "tan": _float(cmath.tan),
    "cot": _float(lambda z: 1 / cmath.tan(z)),
    "sec": _float(lambda z: 1 / cmath.cos(z)),
    "csc": _float(lambda z: 1 / cmath.sin(z)),
    "sinh": _float(cmath.sinh),
    "cosh": _float(cmath.cosh),
    "tanh": _float(cmath.tanh),
    **{name: _float(cmath.asin) for name in ("arcsin", "asin")},
    **{name: _float(cmath.acos) for name in ("arccos", "acos")},
    **{name: _float(cmath.atan) for name in ("arctan", "atan")},
}
