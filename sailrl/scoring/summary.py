"""Summary of a scored file: rows, rewards and statuses by task, reasons by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sailrl.types import STATUSES

MAX_TASKS = 50
MAX_REASONS = 200
"""Names come from the data: a file with a task of its own in every row must not fill memory or the screen."""
OTHER = "(other)"


@dataclass(slots=True)
class Mean:
    """A running mean."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> None:
        """Adds one value; None counts as no value."""
        if value is not None:
            self.total += value
            self.count += 1

    @property
    def value(self) -> float | None:
        """None before the first value."""
        return self.total / self.count if self.count else None

    def __str__(self) -> str:
        return "-" if self.value is None else f"{self.value:.4f}"


@dataclass(slots=True)
class TaskSummary:
    """The rows of one task."""

    rows: int = 0
    reward: Mean = field(default_factory=Mean)
    parts: dict[str, Mean] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    """Rows by the worst status among their parts."""


class Summary:
    """Add rows one by one; memory does not grow with them."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskSummary] = {}
        self.reasons: Counter[tuple[str, str, str]] = Counter()
        """Rows by (part, status, reason)."""
        self.details: dict[tuple[str, str], str] = {}
        """By (part, reason) what went wrong the first time, in words."""
        self.first_unscored = ""
        """The first row without a reward, and why."""

    def add(self, row: Mapping[str, Any], line: int) -> None:
        """Counts a row of the scored file."""
        if row["reward"] is None and not self.first_unscored:
            self.first_unscored = f"line {line}, {_why(row)}"
        name = row.get("task")
        name = name if isinstance(name, str) and name else "(none)"
        if name not in self.tasks and len(self.tasks) >= MAX_TASKS:
            name = OTHER
        task = self.tasks.setdefault(name, TaskSummary())
        task.rows += 1
        task.reward.add(row["reward"])
        for part, score in row["scores"].items():
            task.parts.setdefault(part, Mean()).add(score["value"])
            key = (part, score["status"], score["reason"])
            self.reasons[key if key in self.reasons or len(self.reasons) < MAX_REASONS else (*key[:2], OTHER)] += 1
        task.statuses[max((score["status"] for score in row["scores"].values()), key=STATUSES.index)] += 1

    def explain(self, part: str, reason: str, detail: str) -> None:
        """Keeps the first detail of each reason."""
        if len(self.details) < MAX_REASONS:
            self.details.setdefault((part, reason), detail)

    def total(self) -> TaskSummary:
        """All tasks together."""
        whole = TaskSummary()
        for task in self.tasks.values():
            whole.rows += task.rows
            whole.reward = _joined(whole.reward, task.reward)
            whole.statuses += task.statuses
            for part, mean in task.parts.items():
                whole.parts[part] = _joined(whole.parts.get(part, Mean()), mean)
        return whole


def _why(row: Mapping[str, Any]) -> str:
    """What kept a row from being scored: the first part without a value."""
    if "error" in row:
        return str(row["error"]).partition(": ")[2]
    unscored = ((name, score) for name, score in row["scores"].items() if score["value"] is None)
    name, score = next(unscored, ("the combining rule", {"reason": "no reward"}))
    if score["reason"] == "missing_response":
        fields = [key for key in row if key not in ("reward", "scores")]
        return f"missing_response: the row has {', '.join(map(str, fields[:10])) or 'nothing'}"
    return f"{name}: {score['reason']}"


def _joined(one: Mean, other: Mean) -> Mean:
    return Mean(one.total + other.total, one.count + other.count)
