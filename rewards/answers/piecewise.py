"""Functions given in pieces, compared by their values: at the ends of the pieces, between them and far outside."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from rewards.answers import latex
from rewards.answers.arithmetic import Point
from rewards.answers.latex import Node
from rewards.answers.points import values
from rewards.answers.quantity import Parsed
from rewards.answers.realset import ALL, RealSet, contains, difference, real_set, union
from rewards.answers.values import inexact, near

_OUTSIDE = [Fraction(n) for n in (-1000, -37, -3, -1, 0, 1, 2, 5, 41, 1000)]


def same_pieces(g: Parsed, a: Parsed) -> bool | None:
    """Whether two answers, at least one of them in pieces, are one function of one unknown; None when that cannot be
    computed."""
    left, right = _pieces(g), _pieces(a)
    if left is None or right is None:
        return None
    names = frozenset().union(*(latex.symbols(node) for node, _ in (*left, *right)), _conditioned(g), _conditioned(a))
    if len(names) > 1:
        return None
    name = next(iter(names), "x")
    ends = {
        end.value if isinstance(end.value, Fraction) else Fraction(inexact(end.value).real)
        for _, where in (*left, *right)
        for piece in where
        for end in (piece.low, piece.high)
        if end is not None and end.value is not None
    }
    borders = sorted(ends)
    places = {*borders, *_OUTSIDE, *((x + y) / 2 for x, y in pairwise(borders))}
    places |= {border + step for border in borders for step in (Fraction(-1, 7), Fraction(1, 7), Fraction(-23, 3))}
    checked = 0
    for place in sorted(places):
        ours, theirs = _at(left, name, place), _at(right, name, place)
        if not ours and not theirs:
            continue
        if not ours or not theirs or any(near(ours[0], other) is False for other in theirs):
            return False  # pieces that overlap must agree
        checked += 1
    return checked > 1 or None


def _pieces(parsed: Parsed) -> list[tuple[Node, RealSet]] | None:
    if parsed.kind != "piecewise":
        return None if parsed.node is None else [(parsed.node, ALL)]
    out: list[tuple[Node, RealSet]] = []
    covered: RealSet = []
    for value, condition in zip(parsed.items[::2], parsed.items[1::2], strict=True):
        where = difference(ALL, covered) if not condition.text else real_set(condition)
        if value.node is None or where is None:
            return None
        out.append((value.node, where))
        covered = union(covered, where)
    return out


def _conditioned(parsed: Parsed) -> frozenset[str]:
    """The unknowns that the conditions of the pieces are about."""
    return frozenset(item.label for item in parsed.items[1::2] if item.label)


def _at(pieces: list[tuple[Node, RealSet]], name: str, place: Fraction) -> list[float | complex]:
    """The values of all pieces that hold at ``place``."""
    found = [values((node,), Point({name: place}))[0] for node, where in pieces if contains(where, float(place))]
    return [inexact(value) for value in found if value is not None]
