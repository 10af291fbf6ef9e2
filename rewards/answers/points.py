"""Where expressions are compared: points of both signs and several sizes for their unknowns.

Expressions that are smooth everywhere agree on a few points only when they are the same. What has corners, steps or a
limited domain (``|x-9|``, floors, roots, logarithms) is tried on many points: small and far, whole and not, and close
to each constant in it, where its corners lie. Points are exact fractions, so that steps fall where they should; they
depend on the unknowns' names only, never on a hash seed.
"""

from __future__ import annotations

import zlib
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
_WHOLE = [Fraction(n) for n in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 15, 20, 24, 31)]
_SOME = [Fraction(0), Fraction(-1, 3), Fraction(1, 3), Fraction(-3, 5), Fraction(7, 10)]
"""Steps away from a constant."""
_MAX_CONSTANTS = 8
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


def features(nodes: Sequence[Node]) -> Features:
    names, calls, constants = set(), set(), set()
    whole = limited = imaginary = False
    stack = list(nodes)
    while stack:
        node = stack.pop()
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
    return Features(
        frozenset(names),
        bool(calls & _KINKED),
        limited or bool(calls & _LIMITED),
        whole or bool(calls & _COUNTING),
        imaginary,
        tuple(sorted(constants)),
    )


def points(found: Features) -> Iterator[Point]:
    """The points for expressions with these features."""
    if not found.names:
        yield Point()
        return
    ranks = {name: zlib.crc32(name.encode("utf-8", "replace")) for name in found.names}
    if found.whole:
        yield from _spread(_WHOLE, ranks)
        return
    for size, other in _SMOOTH:
        yield Point({n: size * Fraction(64 + r % 61, 64) * (1 if r % 2 else other) for n, r in ranks.items()})
    if found.limited:
        pool = [value for size in _FAR for value in (size, -size)]
        constants = [c for c in found.constants if c.numerator.bit_length() + c.denominator.bit_length() < 64]
        constants = constants[:_MAX_CONSTANTS]
        ratios = [c / d for c in constants for d in constants if d > 1 and c != d] if len(constants) > 1 else []
        for c in dict.fromkeys(constants + ratios):
            pool += [value for step in _SOME for value in (c + step, -c - step)] + [c * Fraction(11, 8)]
        yield from _spread(list(dict.fromkeys(pool)), ranks)


def _spread(pool: list[Fraction], ranks: dict[str, int]) -> Iterator[Point]:
    """Every value of the pool for one unknown; for several, each runs through the pool in its own order."""
    if len(ranks) == 1:
        (name,) = ranks
        yield from (Point({name: value}) for value in pool)
        return
    for i in range(max(24, len(pool))):
        yield Point({name: pool[zlib.crc32(b"%d %d" % (rank, i)) % len(pool)] for name, rank in ranks.items()})


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
