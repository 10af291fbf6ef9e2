"""The report of a filter: a table of kept and dropped problems with reasons, and a histogram of accuracies."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sailrl.report.histogram import draw_histogram
from sailrl.report.safe_text import safe, say
from sailrl.report.shown import percent

HISTOGRAM, REPORT = "histogram.png", "report.json"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class FilterReport:
    """The counts of a filter."""

    rows: int = 0
    kept: int = 0
    steps: dict[str, Counter[str]] = field(default_factory=dict)
    """Reasons by step, of the rows that reached it."""
    tasks: dict[str, Counter[str]] = field(default_factory=dict)
    """Reasons of the last step by task."""
    accuracies: dict[str, dict[float, int]] = field(default_factory=lambda: {"kept": {}, "dropped": {}})
    """Problems by the accuracy of their samples."""
    unusable: dict[str, int] = field(default_factory=dict)
    """Rows that could not be read, by reason."""

    def save(self, folder: Path) -> None:
        """Writes ``report.json``."""
        data = {
            "rows": self.rows,
            "kept": self.kept,
            "unusable_rows": self.unusable,
            "steps": {step: dict(reasons) for step, reasons in self.steps.items()},
            "pass_at_k_by_task": {task: dict(reasons) for task, reasons in self.tasks.items()},
            "problems_by_accuracy": {
                outcome: {f"{accuracy:g}": count for accuracy, count in sorted(found.items())}
                for outcome, found in self.accuracies.items()
            },
        }
        (folder / REPORT).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def print_filter(report: FilterReport, folder: Path, console: Console | None = None) -> None:
    """Prints the tables and draws ``histogram.png`` into the folder."""
    console = console or Console(highlight=False)
    title = f"{report.kept:,} of {report.rows:,} problems kept"
    table = Table(title=title, title_justify="left")
    for name in ("step", "reason"):
        table.add_column(name)
    for name in ("problems", "share"):
        table.add_column(name, justify="right")
    for reason, count in report.unusable.items():
        table.add_row("reading", Text(safe(reason, 40)), f"{count:,}", "")
    for step, reasons in report.steps.items():
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
            table.add_row(step, Text(safe(reason, 40)), f"{count:,}", percent(count / report.rows))
    console.print(table)
    if len(report.tasks) > 1:
        console.print(_by_task(report))
    if report.kept:
        say(console, f"kept       {folder / 'kept.jsonl'}")
    if any(report.accuracies.values()):
        try:
            say(console, f"histogram  {draw_histogram(report.accuracies, title, folder / HISTOGRAM)}")
        except (ImportError, OSError) as error:  # the table is printed already
            log.warning("no histogram: %s", error)


def _by_task(report: FilterReport) -> Table:
    reasons = sorted({reason for found in report.tasks.values() for reason in found}, key=lambda r: (r != "kept", r))
    table = Table(title="by task", title_justify="left")
    table.add_column("task")
    for reason in reasons:
        table.add_column(reason, justify="right")
    for task, found in sorted(report.tasks.items(), key=lambda item: -sum(item[1].values())):
        table.add_row(Text(safe(task, 24)), *(f"{found.get(reason, 0):,}" for reason in reasons))
    return table
