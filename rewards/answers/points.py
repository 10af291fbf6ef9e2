"""Where expressions are compared: points of both signs and several sizes for their unknowns.

Expressions that are smooth everywhere agree on a few points only when they are the same. What has corners, steps or a
limited domain (``|x-9|``, floors, roots, logarithms) is tried on many points: small and far, whole and not, and close
to each constant in it, where its corners lie. Points are exact fractions, so that steps fall where they should. They
are the same in every process: no hash seed enters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rewards.answers import arithmetic, latex
from rewards.answers.arithmetic import Point
from rewards.answers.latex import Node, Number, TooLarge, Unreadable

_SMOOTH = [(Fraction(3, 4), 1), (Fraction(5, 4), 1), (Fraction(-1, 2), 1), (Fraction(23), -1), (Fraction(65, 64), 1)]
"""A size and the sign that every second unknown gets there."""
_FAR = [Fraction(*pair) for pair in (
    (1, 4), (5, 7), (3, 2), (13, 5), (4, 1), (22, 3), (12, 1), (113, 5), (61, 1), (302, 2), (401, 1), (2999, 3)
)]  # fmt: skip
_WHOLE = [Fraction(n) for n in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 15, 20, 24, 31, 101, 250)]
_COUNTED_NAMES = frozenset("knmN")
"""Names of numbers that count, where a floor or a ceiling is taken of them."""
_SOME = [Fraction(0), Fraction(-1, 3), Fraction(1, 3), Fraction(-3, 5), Fraction(7, 10)]
"""Steps away from a constant."""
_MAX_CONSTANTS = 8
_BUDGET, _FEWEST = 20_000, 16
"""Nodes computed for one comparison, and the fewest points however large the expressions are."""
_KINKED = frozenset(["abs", "floor", "ceil", "sgn", "max", "min"])
_LIMITED = _KINKED | {"root", "ln", "log", "lg", "arcsin", "arccos", "asin", "acos", "arctan", "atan", "arccot"}
_COUNTING = frozenset(["factorial", "binomial", "permutations", "gcd", "lcm"])


@dataclass(frozen=True, slots=True)
class Features:
    """What decides where some expressions have to be compared."""

    names: frozenset[str]
    kinked: bool
    """An absolute value or a step: it is defined everywhere on purpose."""
    limited: bool
    whole: bool
    """Its unknowns count things: factorials, (-1)^n."""
    imaginary: bool
    constants: tuple[Fraction, ...]
    size: int
    """Nodes of all trees."""


def features(nodes: Sequence[Node]) -> Features:
    """What stands in the trees, in one walk."""
    names, calls, constants = set(), set(), set()
    whole = limited = imaginary = False
    size = 0
    stack = list(nodes)
    while stack:
        node = stack.pop()
        size += 1
        kind = node[0]
        if kind == "sym":
            names.add(node[1])
        elif kind == "num":
            constants.add(abs(node[1]))
        elif kind == "const":
            imaginary = imaginary or node[1] == "i"
        elif kind == "sum":
            stack += node[1]
        elif kind == "call":
            calls.add(node[1])
            stack += node[2]
        else:
            if kind == "pow" and node[2][0] != "num":
                base = node[1]
                whole = whole or (base[0] == "neg" and not latex.symbols(base))
                limited = limited or bool(latex.symbols(base))
            elif kind == "pow" and node[2][1].denominator != 1:
                limited = True
            stack += node[1:]
    whole = whole or bool(calls & {"floor", "ceil"} and names <= _COUNTED_NAMES)
    return Features(
        frozenset(names),
        bool(calls & _KINKED),
        limited or bool(calls & _LIMITED),
        whole or bool(calls & _COUNTING),
        imaginary,
        tuple(sorted(constants)),
        size,
    )


def points(found: Features) -> Iterator[Point]:
    """The points for expressions with these features."""
    if not found.names:
        yield Point()
        return
    names = sorted(found.names)
    if found.whole:
        near = [Fraction(math.floor(c) + step) for c in _places(found) for step in (-1, 0, 1)] if found.kinked else []
        yield from _spread([n for n in dict.fromkeys(_WHOLE + near) if n > 0], names, found.size)
        return
    for size, other in _SMOOTH:
        yield Point({n: size * Fraction(64 + 11 * i, 64) * (other if i % 2 else 1) for i, n in enumerate(names)})
    if found.limited:
        pool = [value for size in _FAR for value in (size, -size)]
        for c in _places(found):
            pool += [value for step in _SOME for value in (c + step, -c - step)] + [c * Fraction(11, 8)]
        yield from _spread(list(dict.fromkeys(pool)), names, found.size)


def _places(found: Features) -> list[Fraction]:
    """The constants of the expressions and their ratios: where corners and steps may lie."""
    constants = [c for c in found.constants if c.numerator.bit_length() + c.denominator.bit_length() < 64]
    constants = constants[:_MAX_CONSTANTS]
    return list(dict.fromkeys(constants + [c / d for c in constants for d in constants if d > 1 and c != d]))


def _spread(pool: list[Fraction], names: list[str], size: int) -> Iterator[Point]:
    """Every value of the pool for one unknown; for several, each takes values of the pool in an order of its own. Fewer
    where the expressions are large."""
    most = max(_FEWEST, _BUDGET // size)
    if len(names) == 1:
        step = -(-len(pool) // most)
        yield from (Point({names[0]: value}) for value in pool[::step])
        return
    for i in range(min(most, max(32, len(pool)))):
        yield Point({name: pool[_shuffled(i, rank) % len(pool)] for rank, name in enumerate(names)})


def _shuffled(i: int, rank: int) -> int:
    """A fixed number without visible order."""
    x = (i * 0x9E3779B1 + rank * 0x85EBCA77 + 1) & 0xFFFFFFFF
    x = ((x ^ x >> 15) * 0xC2B2AE3D) & 0xFFFFFFFF
    return x ^ x >> 16


def values(nodes: Sequence[Node], point: Point) -> list[Number | None]:
    """The value of each expression at ``point``, None where it has none. Raises TooLarge when all cost too much."""
    out: list[Number | None] = []
    refused = 0
    for node in nodes:
        try:
            out.append(arithmetic.evaluate(node, point))
        except Unreadable:
            out.append(None)
        except TooLarge:
            refused += 1
            out.append(None)
    if refused == len(nodes):
        raise TooLarge
    return out
