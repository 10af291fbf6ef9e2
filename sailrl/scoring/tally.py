"""Counts what scoring did, for metrics: rows by status and reason, and seconds per row, for each part."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from sailrl.scoring.calls import Outcome
from sailrl.types import Score

MAX_REASONS = 64
"""Distinct reasons kept per part: a reward that puts numbers into its reasons must not fill the metrics file."""


class Tally:
    """Thread-safe. ``take`` returns what was counted since it was last called, and starts again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, _Part] = {}

    def add(self, outcomes: Mapping[str, tuple[Outcome, float, str]]) -> None:
        """Counts one response: per part its outcome, the seconds it took and where it ran."""
        with self._lock:
            for name, (outcome, seconds, where) in outcomes.items():
                part = self._parts.get(name)
                if part is None:
                    part = self._parts[name] = _Part()
                part.add(outcome.score, seconds, where)

    def take(self) -> dict[str, float]:
        """The metrics of all parts since the last call; see ``Scorer.metrics``."""
        with self._lock:
            parts, self._parts = self._parts, {}
        metrics: dict[str, float] = {}
        for name, part in parts.items():
            metrics |= {f"score/{name}/{key}": value for key, value in part.metrics().items()}
        return metrics


class _Part:
    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str, str]] = Counter()
        """Rows by (status, where, reason)."""
        self.reasons: set[str] = set()
        self.seconds = 0.0
        self.slowest_s = 0.0

    def add(self, score: Score, seconds: float, where: str) -> None:
        reason = score.reason
        if reason not in self.reasons:
            if len(self.reasons) < MAX_REASONS:
                self.reasons.add(reason)
            else:
                reason = "other"
        self.seen[score.status, where, reason] += 1
        self.seconds += seconds
        if seconds > self.slowest_s:
            self.slowest_s = seconds

    def metrics(self) -> dict[str, float]:
        counts: Counter[str] = Counter()
        for (status, where, reason), rows in self.seen.items():
            for key in (status, where, f"reason/{reason or 'none'}"):
                counts[key] += rows
        rows = sum(self.seen.values())
        return dict(counts) | {"latency_s/mean": self.seconds / rows, "latency_s/max": self.slowest_s}
