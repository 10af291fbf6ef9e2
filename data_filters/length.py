"""Lengths: bounds, and balancing by resampling.

Source: SAIL-VL2 (arXiv 2509.14033) section 4.2.2 (iii) balances the CoT data "by resampling on token length"; bins
and target are not published. Here bins double (1, 2-3, 4-7, ...) and the fullest ones are cut to a common level,
without repeating rows.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from data_filters.histogram import LengthHistogram
from data_filters.reading import Row, count_units, prompt_text
from sailrl.errors import ConfigError, DataError
from sailrl.types import Verdict

Part = Literal["prompt", "response"]


def row_length(row: Row, part: Part) -> int:
    """Length of a part of a row: its ``<part>_tokens`` where the row has them, words otherwise.

    Raises:
        DataError: the row has no such part.
    """
    tokens = row.get(f"{part}_tokens")
    if tokens is not None:
        return int(tokens)
    text = prompt_text(row) if part == "prompt" else row.get("response")
    if not isinstance(text, str):
        raise DataError(f"row {row.get('id', '')!r} has no 'response' text and no 'response_tokens' to measure.")
    return count_units(text)


@dataclass(frozen=True)
class LengthBounds:
    """Keeps rows whose part is neither too short nor too long. Reasons: ``kept``, ``too_short``, ``too_long``."""

    at_least: int = 1
    """Shortest length that stays, in tokens where rows have ``<part>_tokens``, in words otherwise."""
    at_most: int | None = None
    """Longest length that stays; None sets no limit."""
    part: Part = "response"

    def __post_init__(self) -> None:
        if self.part not in ("prompt", "response"):
            raise ConfigError(f"length: part = {self.part!r} must be 'prompt' or 'response'.")
        if self.at_least < 0 or (self.at_most is not None and self.at_most < self.at_least):
            raise ConfigError(f"length: at_least = {self.at_least} and at_most = {self.at_most} leave no length.")

    def __call__(self, row: Row) -> Verdict:
        length = row_length(row, self.part)
        if length < self.at_least:
            return Verdict(False, "too_short", {"length": length})
        if self.at_most is not None and length > self.at_most:
            return Verdict(False, "too_long", {"length": length})
        return Verdict(True, "kept", {"length": length})


@dataclass(frozen=True, slots=True)
class Balanced:
    """Which rows a balancing keeps."""

    indexes: list[int]
    """Positions of the kept rows, ascending."""
    before: dict[str, Any]
    after: dict[str, Any]
    """Summaries of the lengths, see :meth:`data_filters.histogram.LengthHistogram.summary`."""


@dataclass(frozen=True)
class BalanceLengths:
    """Evens out the lengths of a CoT set: full bins are sampled down to one level, sparse bins stay whole."""

    total: int | None = None
    """Rows to keep, exactly. None: no bin keeps more than the mean of the bins that have rows."""
    seed: int = 0
    part: Part = "response"

    def select(self, rows: Iterable[Row]) -> Balanced:
        """Chooses rows in one pass, holding their lengths only.

        Raises:
            DataError: ``total`` is more than the rows there are.
        """
        lengths = [row_length(row, self.part) for row in rows]
        bins: defaultdict[int, list[int]] = defaultdict(list)
        for index, length in enumerate(lengths):
            bins[length.bit_length()].append(index)
        quotas = self._quotas({name: len(members) for name, members in bins.items()})
        rng = random.Random(self.seed)
        indexes = sorted(index for name in sorted(bins) for index in rng.sample(bins[name], quotas[name]))
        return Balanced(indexes, _summary(lengths), _summary([lengths[index] for index in indexes]))

    def _quotas(self, sizes: dict[int, int]) -> Counter[int]:
        available = sum(sizes.values())
        if self.total is None:
            level = -(-available // max(1, len(sizes)))
            return Counter({name: min(size, level) for name, size in sizes.items()})
        if self.total > available:
            raise DataError(
                f"length balancing: total = {self.total} and only {available} rows are there. "
                f"Set total to at most {available}; rows are never repeated."
            )
        quotas: Counter[int] = Counter()
        left = self.total
        for done, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
            quotas[name] = min(sizes[name], left // (len(sizes) - done))
            left -= quotas[name]
        return quotas


def _summary(lengths: Iterable[int]) -> dict[str, Any]:
    histogram = LengthHistogram()
    for length in lengths:
        histogram.add(length)
    return histogram.summary()
