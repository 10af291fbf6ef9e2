"""The results of ``sailrl eval``: the lines of ``evals.jsonl`` and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sailrl.data import jsonl
from sailrl.report.safe_text import safe
from sailrl.report.shown import percent

EVALS = "evals.jsonl"
RESPONSES = "responses.jsonl"


def read_evals(folder: Path) -> list[dict[str, Any]]:
    """The lines of the folder's ``evals.jsonl``, one per model and instruction; empty without the file."""
    path = folder / EVALS
    return [line for _, line in jsonl.read(path)] if path.is_file() else []


def print_evals(folder: Path, lines: Sequence[Mapping[str, Any]] | None = None, console: Console | None = None) -> None:
    """The table: a row per model; accuracy, mean length and share of cut responses for every way of asking.

    Args:
        lines: those to show; None shows the last one of each model and instruction.
    """
    lines = read_evals(folder) if lines is None else lines
    found = {(line["model"], line["asked"]): line for line in lines}
    asked = list(dict.fromkeys(line["asked"] for line in lines))
    problems = max((line["problems"] for line in found.values()), default=0)
    table = Table(title=Text(safe(f"{folder.name}: {problems:,} held-out problems")), title_justify="left")
    table.add_column("model")
    for way in asked:
        table.add_column(Text(safe(f"{way}: accuracy")), justify="right")
        table.add_column("tokens", justify="right")
        table.add_column("cut off", justify="right")
    for name in dict.fromkeys(line["model"] for line in lines):
        cells = [Text(safe(name))]
        for way in asked:
            line = found.get((name, way))
            cells += map(Text, ["–"] * 3 if line is None else _numbers(line))
        table.add_row(*cells)
    (console or Console(highlight=False)).print(table)


def _numbers(line: Mapping[str, Any]) -> list[str]:
    error = line["standard_error"]
    accuracy = percent(line["accuracy"]) + (f" ± {100 * error:.1f}" if error is not None else "")
    return [
        accuracy,
        f"{line['response_tokens']:.1f}",
        percent(line["truncated"] / (line["problems"] * line["samples"])),
    ]
