"""What a filter shows at its end: a table of what became of the problems, and a histogram of their accuracies."""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sailrl.report.picture import ACCURACY, GRID, INK, MUTED
from sailrl.report.safe_text import safe
from sailrl.report.shown import percent

HISTOGRAM, REPORT = "histogram.png", "report.json"
DROPPED_COLOR = "#c3cad2"
BINS = 20
"""Most bars; more different accuracies are put into so many equal bins."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class FilterReport:
    """The counts of a filter, for people and programs."""

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
                fate: {f"{accuracy:g}": count for accuracy, count in sorted(found.items())}
                for fate, found in self.accuracies.items()
            },
        }
        (folder / REPORT).write_text(json.dumps(data, indent=1) + "\n")


def print_filter(report: FilterReport, folder: Path, console: Console | None = None) -> None:
    """Prints the tables and draws ``histogram.png`` into the folder."""
    console = console or Console(highlight=False)
    table = Table(title=f"{report.kept:,} of {report.rows:,} problems kept", title_justify="left")
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
    if report.kept or any(report.accuracies.values()):
        console.print(f"kept       {folder / 'kept.jsonl'}", soft_wrap=True)
        try:
            console.print(f"histogram  {draw_histogram(report, folder / HISTOGRAM)}", soft_wrap=True)
        except (ImportError, OSError) as error:  # the numbers are there without their picture
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


def bars(accuracies: Mapping[str, Mapping[float, int]]) -> tuple[list[float], dict[str, list[int]], float]:
    """``(centres, {fate: heights}, width)``: a bar per accuracy that occurs, or ``BINS`` equal ones if there are more.

    With 4 samples there are five: 0, 1/4, 2/4, 3/4 and 1.
    """
    exact = sorted({accuracy for found in accuracies.values() for accuracy in found})
    if len(exact) > BINS:
        exact = [index / BINS for index in range(BINS + 1)]
        accuracies = {fate: _binned(found) for fate, found in accuracies.items()}
    gaps = [after - before for before, after in itertools.pairwise(exact)]
    heights = {fate: [found.get(accuracy, 0) for accuracy in exact] for fate, found in accuracies.items()}
    return exact, heights, 0.8 * min(gaps, default=0.25)


def _binned(found: Mapping[float, int]) -> dict[float, int]:
    binned: dict[float, int] = {}
    for accuracy, count in found.items():
        place = round(accuracy * BINS) / BINS
        binned[place] = binned.get(place, 0) + count
    return binned


def draw_histogram(report: FilterReport, path: Path) -> Path:
    """Problems by the accuracy of the model's samples, kept ones and dropped ones on top of each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    centres, heights, width = bars(report.accuracies)
    axes.bar(centres, heights["kept"], width, color=ACCURACY, label="kept")
    axes.bar(centres, heights["dropped"], width, bottom=heights["kept"], color=DROPPED_COLOR, label="dropped")
    for place, kept, dropped in zip(centres, heights["kept"], heights["dropped"], strict=True):
        axes.annotate(
            f"{kept + dropped:,}",
            (place, kept + dropped),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=MUTED,
            fontsize=8,
        )
    axes.set_title(
        f"{report.kept:,} of {report.rows:,} problems kept", loc="left", color=INK, fontsize=12, weight="bold"
    )
    axes.set_xlabel("accuracy of the model's samples", color=MUTED, fontsize=9)
    axes.set_ylabel("problems", color=MUTED, fontsize=9)
    if len(centres) <= 9:
        axes.set_xticks(centres, [f"{centre:.3g}" for centre in centres])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=8.5, length=0)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    figure.tight_layout()
    figure.savefig(path)
    return path
