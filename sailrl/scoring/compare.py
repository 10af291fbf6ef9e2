"""Agreement of a scored file with labels or with another scorer: right or wrong, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

THRESHOLD = 0.5
"""A value from here on says "right"."""
MAX_LISTED = 20
_PAIRS = ((True, True), (True, False), (False, True), (False, False))
_WORDS = {"true": True, "yes": True, "right": True, "correct": True, "1": True}
_WORDS |= {"false": False, "no": False, "wrong": False, "incorrect": False, "0": False}


@dataclass(frozen=True, slots=True)
class Disagreement:
    line: int
    ours: bool
    reason: str
    theirs: bool
    row: Mapping[str, Any]


@dataclass(slots=True)
class Comparison:
    """Counts of rows by our word and theirs."""

    counts: dict[tuple[bool, bool], int] = field(default_factory=lambda: dict.fromkeys(_PAIRS, 0))
    """By (ours, theirs)."""
    not_compared: int = 0
    """Rows without a score of ours or a word of theirs."""
    listed: list[Disagreement] = field(default_factory=list)

    def add(self, line: int, row: Mapping[str, Any], part: str, theirs: Any) -> None:
        """Counts a scored row. ``theirs`` is a number, a truth value or a word for one; anything else is no word."""
        score = row["scores"][part]
        ours, theirs = verdict(score["value"]), verdict(theirs)
        if ours is None or theirs is None:
            self.not_compared += 1
            return
        self.counts[ours, theirs] += 1
        if ours != theirs and len(self.listed) < MAX_LISTED:
            self.listed.append(Disagreement(line, ours, score["reason"], theirs, row))

    @property
    def rows(self) -> int:
        return sum(self.counts.values())

    @property
    def agreement(self) -> float | None:
        return (self.counts[True, True] + self.counts[False, False]) / self.rows if self.rows else None


def verdict(value: Any) -> bool | None:
    """Right, wrong, or nothing said."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value >= THRESHOLD if value == value else None
    return _WORDS.get(value.strip().lower()) if isinstance(value, str) else None
