"""Counts what scoring did, for metrics: rows by status and reason, and seconds per row, for each part."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from sailrl.scoring.calls import Outcome

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
                self._parts.setdefault(name, _Part()).add(outcome, seconds, where)

    def take(self) -> dict[str, float]:
        with self._lock:
            parts, self._parts = self._parts, {}
        metrics: dict[str, float] = {}
        for name, part in parts.items():
            metrics |= {f"score/{name}/{key}": value for key, value in part.metrics().items()}
        return metrics


class _Part:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.seconds = 0.0
        self.slowest_s = 0.0

    def add(self, outcome: Outcome, seconds: float, where: str) -> None:
        score = outcome.score
        self.counts[score.status] += 1
        self.counts[where] += 1
        known = score.reason in self.reasons or len(self.reasons) < MAX_REASONS
        self.reasons[score.reason if known else "other"] += 1
        self.seconds += seconds
        self.slowest_s = max(self.slowest_s, seconds)

    def metrics(self) -> dict[str, float]:
        rows = max(1, sum(self.reasons.values()))
        counts = {key: float(count) for key, count in self.counts.items()}
        reasons = {f"reason/{reason or 'none'}": float(count) for reason, count in self.reasons.items()}
        return counts | reasons | {"latency_s/mean": self.seconds / rows, "latency_s/max": self.slowest_s}
