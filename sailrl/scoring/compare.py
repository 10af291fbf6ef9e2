"""Compares a scored file with labels or with another scorer: right or wrong, row by row."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sailrl.types import reaches

MAX_LISTED = 20
_PAIRS = ((True, True), (True, False), (False, True), (False, False))
_WORDS = {"true": True, "yes": True, "right": True, "correct": True}
_WORDS |= {"false": False, "no": False, "wrong": False, "incorrect": False}


@dataclass(frozen=True, slots=True)
class OtherVerdict:
    """A row that is right for one side and wrong for the other."""

    line: int
    ours: bool
    reason: str
    theirs: bool
    row: Mapping[str, Any]


@dataclass(slots=True)
class Comparison:
    """Counts rows by our verdict and theirs."""

    counts: dict[tuple[bool, bool], int] = field(default_factory=lambda: dict.fromkeys(_PAIRS, 0))
    """By (ours, theirs)."""
    not_compared: int = 0
    """Rows for which one side has no verdict."""
    listed: list[OtherVerdict] = field(default_factory=list)

    def add(self, line: int, row: Mapping[str, Any], part: str, theirs: bool | None) -> None:
        """Counts a scored row with the other side's verdict on it."""
        score = row["scores"][part]
        ours = verdict(score["value"])
        if ours is None or theirs is None:
            self.not_compared += 1
            return
        self.counts[ours, theirs] += 1
        if ours != theirs and len(self.listed) < MAX_LISTED:
            self.listed.append(OtherVerdict(line, ours, score["reason"], theirs, row))

    @property
    def rows(self) -> int:
        """Rows that were compared."""
        return sum(self.counts.values())

    @property
    def agreement(self) -> float | None:
        """The share of rows with the same verdict, 0 to 1; None when there are no rows."""
        return (self.counts[True, True] + self.counts[False, False]) / self.rows if self.rows else None


def verdict(value: Any) -> bool | None:
    """Right or wrong by a truth value, a word for one, or a number, also as text (right from 1 on, as in accuracy);
    None for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        try:
            value = float(word)
        except ValueError:
            return None
    if not isinstance(value, int | float) or math.isnan(value):
        return None
    return reaches(value, 1.0)


def by_id(ours: Iterable[str], theirs: Iterable[tuple[str, bool | None]]) -> tuple[list[bool | None], int, int]:
    """Their verdict on each of our rows. The first row of an id is paired with our first row of that id, and so on.

    Returns:
        The verdicts, how many of our rows have no partner, and how many of theirs.
    """
    waiting: dict[str, deque[bool | None]] = defaultdict(deque)
    for name, word in theirs:
        waiting[name].append(word)
    words: list[bool | None] = []
    alone = 0
    for name in ours:
        rest = waiting.get(name)
        alone += not rest
        words.append(rest.popleft() if rest else None)
    return words, alone, sum(map(len, waiting.values()))
