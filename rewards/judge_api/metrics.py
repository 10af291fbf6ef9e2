"""Metrics of a judge: counts since the start, and the distribution of recent times."""

from __future__ import annotations

from collections import Counter, deque

_RECENT = 4096


class JudgeMetrics:
    """Counts since the start, and the last few thousand times: enough for percentiles, with bounded memory."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._samples: dict[str, deque[float]] = {}
        # Present from the start, so that a rate can be computed before the first event.
        for name in ("calls", "requests", "retries", "cache_hits", "deduplicated", "unreadable_replies"):
            self._counts[name] = 0
        for name in ("prompt_tokens", "completion_tokens"):
            self._counts[name] = 0

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a counter."""
        self._counts[name] += by

    def observe(self, name: str, value: float) -> None:
        """Adds one sample, of which the latest are kept."""
        self._samples.setdefault(name, deque(maxlen=_RECENT)).append(value)

    def snapshot(self) -> dict[str, float]:
        """``request_s`` becomes ``request_s/mean``, ``/p50``, ``/p95`` and ``/max``."""
        found = {name: float(value) for name, value in self._counts.items()}
        for name, samples in self._samples.items():
            ordered = sorted(samples)
            found[f"{name}/mean"] = sum(ordered) / len(ordered)
            found[f"{name}/p50"] = ordered[(len(ordered) - 1) // 2]
            found[f"{name}/p95"] = ordered[int(0.95 * (len(ordered) - 1))]
            found[f"{name}/max"] = ordered[-1]
        return found
