"""Lengths of texts, counted exactly and shown in bins that double."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import Any


class LengthHistogram:
    """Counts lengths; its size grows with the number of different lengths, not of texts."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, length: int) -> None:
        """Counts one text."""
        self.counts[length] += 1

    def quantile(self, q: float) -> int:
        """The smallest length that at least a share ``q`` of the texts does not exceed."""
        lengths = sorted(self.counts)
        reached = accumulate(self.counts[length] for length in lengths)
        return next(length for length, below in zip(lengths, reached, strict=True) if below >= q * self.counts.total())

    def summary(self) -> dict[str, Any]:
        """Count, mean, quantiles and the bins ``{"0": .., "1": .., "2-3": .., "4-7": ..}`` in ascending order."""
        total = self.counts.total()
        if not total:
            return {"count": 0}
        bins: Counter[int] = Counter()
        for length, count in self.counts.items():
            bins[length.bit_length()] += count
        return {
            "count": total,
            "mean": sum(length * count for length, count in self.counts.items()) / total,
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "max": max(self.counts),
            "bins": {_bin_name(bits): bins[bits] for bits in sorted(bins)},
        }


def _bin_name(bits: int) -> str:
    low, high = (1 << bits) >> 1, (1 << bits) - 1
    return str(low) if low == high else f"{low}-{high}"
