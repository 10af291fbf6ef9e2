"""Sets of real numbers in one form, however they are written: intervals, unions, inequalities joined by "and" or "or",
``x \\ne 2``, all numbers with exceptions. ``(0,2) \\cup (2,\\infty)`` and ``x > 0, x \\ne 2`` are one set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from rewards.answers.quantity import Parsed
from rewards.answers.values import inexact, near

_MAX_PIECES = 60


@dataclass(frozen=True, slots=True)
class Piece:
    """One interval; an end of None is infinite."""

    low: Parsed | None
    high: Parsed | None
    with_low: bool
    with_high: bool

    @property
    def start(self) -> tuple[float, bool]:
        """The lower end as a sort key: a closed end comes first."""
        return (_place(self.low, -math.inf), not self.with_low)

    @property
    def stop(self) -> tuple[float, bool]:
        """The upper end as a sort key: a closed end comes last."""
        return (_place(self.high, math.inf), self.with_high)

    @property
    def empty(self) -> bool:
        """Whether no number lies in it."""
        low, high = self.start[0], self.stop[0]
        return low > high or (_level(low, high) and not (self.with_low and self.with_high))

    @property
    def point(self) -> bool:
        """Whether it is at most one number."""
        return _level(self.start[0], self.stop[0])


RealSet = list[Piece]
"""Pieces in order, with a gap between any two of them."""

ALL: RealSet = [Piece(None, None, False, False)]


def real_set(parsed: Parsed) -> RealSet | None:
    """The set that an answer describes; None when it is none, or its ends are no numbers."""
    if parsed.kind in {"interval", "tuple"} and len(parsed.items) == 2:
        return _interval(parsed)
    if parsed.kind == "union":
        return _joined(parsed, union)
    if parsed.kind == "meet":
        both = _joined(parsed, intersection)
        # "x < 1, x > 5": a comma between conditions that exclude one another stands for "or".
        return _joined(parsed, union) if both == [] and parsed.ends == "," else both
    if parsed.kind == "relation" and parsed.ends == r"\ne":
        points = _points(parsed.items[1])
        return None if points is None else difference(ALL, points)
    if parsed.kind == "minus":
        base, removed = real_set(parsed.items[0]), _points(parsed.items[1]) or real_set(parsed.items[1])
        return None if base is None or removed is None else difference(base, removed)
    if parsed.kind == "expr" and parsed.text in {r"\mathbb{R}", r"\emptyset"}:
        return ALL if parsed.text == r"\mathbb{R}" else []
    if parsed.kind == "set" or (parsed.label and parsed.value is not None):
        return _points(parsed)  # "x > 2 or x = 0"
    return None


def same_set(g: RealSet, a: RealSet, same: Callable[[Parsed, Parsed], bool]) -> bool:
    """Whether two sets are equal; ``same`` compares two ends."""
    return len(g) == len(a) and all(
        one.with_low == other.with_low
        and one.with_high == other.with_high
        and _same_end(one.low, other.low, same)
        and _same_end(one.high, other.high, same)
        for one, other in zip(g, a, strict=True)
    )


def contains(found: RealSet, x: float) -> bool:
    """Whether a number lies in a set."""
    for piece in found:
        low, high = piece.start[0], piece.stop[0]
        if (low < x or (piece.with_low and _level(low, x))) and (x < high or (piece.with_high and _level(high, x))):
            return True
    return False


def union(g: RealSet, a: RealSet) -> RealSet:
    """What lies in either set, with pieces that touch joined."""
    out: RealSet = []
    for piece in sorted([*g, *a], key=lambda p: p.start):
        if out and _touch(out[-1], piece):
            last = out[-1]
            if piece.stop > last.stop:
                out[-1] = replace(last, high=piece.high, with_high=piece.with_high)
        else:
            out.append(piece)
    return out


def intersection(g: RealSet, a: RealSet) -> RealSet:
    """What lies in both sets."""
    out = []
    for one in g:
        for other in a:
            first, last = max(one, other, key=lambda p: p.start), min(one, other, key=lambda p: p.stop)
            both = Piece(first.low, last.high, first.with_low, last.with_high)
            if not both.empty:
                out.append(both)
    return union(out, [])


def difference(g: RealSet, a: RealSet) -> RealSet:
    """What lies in the first set alone."""
    for piece in a:
        kept = [] if piece.low is None else [Piece(None, piece.low, False, not piece.with_low)]
        kept += [] if piece.high is None else [Piece(piece.high, None, not piece.with_high, False)]
        g = intersection(g, kept)
    return g


def _joined(parsed: Parsed, join: Callable[[RealSet, RealSet], RealSet]) -> RealSet | None:
    sets = [real_set(item) for item in parsed.items]
    known = [found for found in sets if found is not None]
    if len(known) < len(sets) or len(sets) > _MAX_PIECES:
        return None
    out = known[0]
    for found in known[1:]:
        out = join(out, found)
    return out


def _interval(parsed: Parsed) -> RealSet | None:
    low, high = parsed.items
    ends: list[Parsed | None] = []
    for end, infinite, bracket in ((low, r"-\infty", parsed.ends[0]), (high, r"\infty", parsed.ends[1])):
        if end.text == infinite and bracket in "()":
            ends.append(None)
        elif _real(end):
            ends.append(end)
        else:
            return None
    piece = Piece(ends[0], ends[1], parsed.ends[0] == "[", parsed.ends[1] == "]")
    if piece.empty:
        return None if parsed.kind == "tuple" else []  # (7, 2) is a point
    return [piece]


def _points(parsed: Parsed) -> RealSet | None:
    """Numbers by themselves, each a piece of its own."""
    items = parsed.items if parsed.kind in {"list", "set", "tuple"} else (parsed,)
    if not items or len(items) > _MAX_PIECES or not all(_real(item) for item in items):
        return None
    return union([Piece(item, item, True, True) for item in items], [])


def _real(parsed: Parsed) -> bool:
    return parsed.kind == "number" and parsed.value is not None and not isinstance(parsed.value, complex)


def _place(end: Parsed | None, infinite: float) -> float:
    return infinite if end is None or end.value is None else inexact(end.value).real


def _level(x: float, y: float) -> bool:
    return x == y if math.isinf(x) or math.isinf(y) else near(x, y) is not False


def _touch(one: Piece, other: Piece) -> bool:
    """Whether a piece begins before the one before it ends, or right where it does."""
    end, start = one.stop[0], other.start[0]
    if _level(end, start):
        return one.with_high or other.with_low
    return start < end


def _same_end(g: Parsed | None, a: Parsed | None, same: Callable[[Parsed, Parsed], bool]) -> bool:
    if g is None or a is None:
        return g is a
    return same(g, a)
