"""What ``sailrl score`` prints. Text from rows is written by models: it never reaches the terminal as it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sailrl.data.rows import BadRow, Row
from sailrl.report.safe_text import safe
from sailrl.scoring.compare import Comparison
from sailrl.scoring.summary import Summary, TaskSummary
from sailrl.types import STATUSES, Score

MAX_REASONS_SHOWN = 12


def say(message: str) -> None:
    """Prints a message to standard error; standard output is for results."""
    print(safe(message), file=sys.stderr, flush=True)


def print_summary(summary: Summary, out: Path) -> None:
    """Rows, rewards and statuses by task; then why rows got the score they got."""
    console = _console()
    total = summary.total()
    parts = list(total.parts)
    table = Table(title=f"{total.rows:,} rows scored", title_justify="left")
    table.add_column("task")
    for name in ("rows", "reward", *parts, *STATUSES):
        table.add_column(Text(safe(name, 24)), justify="right")
    lines = sorted(summary.tasks.items(), key=lambda item: -item[1].rows)
    for name, task in lines:
        table.add_row(*_cells(name, task, parts))
    if len(lines) > 1:
        table.add_section()
        table.add_row(*_cells("all", total, parts))
    console.print(table)
    reasons = Table(title="decided by", title_justify="left")
    for name in ("part", "status", "reason"):
        reasons.add_column(name)
    reasons.add_column("rows", justify="right")
    for part in parts:
        found = [(key, count) for key, count in summary.reasons.most_common() if key[0] == part]
        for (_, status, reason), count in found[:MAX_REASONS_SHOWN]:
            reasons.add_row(Text(safe(part, 24)), status, Text(safe(reason, 60)), f"{count:,}")
        if len(found) > MAX_REASONS_SHOWN:
            rest = sum(count for _, count in found[MAX_REASONS_SHOWN:])
            reasons.add_row(Text(safe(part, 24)), "", f"({len(found) - MAX_REASONS_SHOWN} more)", f"{rest:,}")
    console.print(reasons)
    for (part, reason), detail in summary.details.items():
        console.print(Text(safe(f"{part}, {reason}: {detail}", 400)))
    console.print(Text(safe(f"written to {out}")))


def print_comparison(comparison: Comparison, other: str, part: str) -> None:
    """Agreement, the four kinds of rows, and the first disagreements."""
    console = _console()
    agreement = "-" if comparison.agreement is None else f"{comparison.agreement:.4f}"
    head = f"agreement of {part} with {other}: {agreement} on {comparison.rows:,} rows"
    console.print(Text(safe(f"{head} ({comparison.not_compared:,} without a score of ours or of theirs)")))
    table = Table()
    table.add_column("")
    for name in ("theirs right", "theirs wrong"):
        table.add_column(name, justify="right")
    for ours in (True, False):
        counts = (f"{comparison.counts[ours, theirs]:,}" for theirs in (True, False))
        table.add_row(f"ours {_word(ours)}", *counts)
    console.print(table)
    if not comparison.listed:
        return
    apart = comparison.counts[True, False] + comparison.counts[False, True]
    table = Table(title=f"disagreements: {len(comparison.listed)} of {apart:,}", title_justify="left")
    for name in ("line", "id", "ours", "by", "theirs", "answer", "end of the response"):
        table.add_column(name)
    for one in comparison.listed:
        response = str(one.row.get("response", ""))
        cells = [str(one.line), str(one.row.get("id", "")), _word(one.ours), one.reason, _word(one.theirs)]
        cells += [str(one.row.get("answer", "")), response[-60:]]
        table.add_row(*(Text(safe(cell, 60)) for cell in cells))
    console.print(table)


def print_explanation(line: int, row: Row | BadRow, lines: Mapping[str, Sequence[str]], total: Score) -> None:
    """The decision path of one row."""
    console = _console()
    fields: Mapping[str, Any] = row if isinstance(row, dict) else {"error": row.detail}
    console.print(Text(f"line {line}"), style="bold")
    for name in ("id", "task", "answer", "choices", "precision", "error"):
        if fields.get(name) is not None:
            console.print(Text(safe(f"  {name}: {fields[name]}", 200)))
    response = fields.get("response")
    if isinstance(response, str):
        console.print(Text(f"  response: {len(response):,} characters, ends with: {safe(response[-200:])}"))
    for part, path in lines.items():
        console.print(Text(safe(part)), style="bold")
        for step in path:
            console.print(Text(f"  {safe(step, 400)}"))
    console.print(
        Text(safe(f"reward: {'none' if total.value is None else total.value} ({total.status}, {total.reason})")),
        style="bold",
    )


def _cells(name: str, task: TaskSummary, parts: Sequence[str]) -> list[Text | str]:
    means = [str(task.parts[part]) if part in task.parts else "-" for part in parts]
    statuses = [f"{task.statuses[status]:,}" for status in STATUSES]
    return [Text(safe(name, 40)), f"{task.rows:,}", str(task.reward), *means, *statuses]


def _word(right: bool) -> str:
    return "right" if right else "wrong"


def _console() -> Console:
    """Standard output, 200 characters wide in a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)
