"""The results of ``sailrl eval``: the lines of ``evals.jsonl`` and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sailrl.config.benchmarks import AVERAGES, TABLE_10
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
    """The tables: a row per model; accuracy, mean length and share of cut responses for every way of asking. Of
    benchmarks, a row for each, with what is published.

    Args:
        lines: those to show; None shows the last one of each model and instruction.
    """
    lines = read_evals(folder) if lines is None else lines
    console = console or Console(highlight=False)
    of_benchmarks = [line for line in lines if "benchmark" in line]
    if plain := [line for line in lines if "benchmark" not in line]:
        _print_held_out(folder, plain, console)
    if of_benchmarks:
        _print_benchmarks(folder, of_benchmarks, console)


def _print_held_out(folder: Path, lines: Sequence[Mapping[str, Any]], console: Console) -> None:
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
    console.print(table)


def _print_benchmarks(folder: Path, lines: Sequence[Mapping[str, Any]], console: Console) -> None:
    found = {(line["model"], line["asked"], line["benchmark"]): line for line in lines}
    ways = list(dict.fromkeys((line["model"], line["asked"]) for line in lines))
    names = list(dict.fromkeys(line["benchmark"] for line in lines))
    published = {line["benchmark"]: line["published"] for line in lines}
    table = Table(title=Text(safe(f"{folder.name}: {len(names)} benchmarks")), title_justify="left")
    table.add_column("benchmark")
    table.add_column("problems", justify="right")
    for model, asked in ways:
        table.add_column(Text(safe(f"{model}, {asked}")), justify="right")
        table.add_column("cut off", justify="right")
    table.add_column("published", justify="right")
    for name in names:
        of = [found.get((*way, name)) for way in ways]
        problems = max(line["problems"] for line in of if line is not None)
        numbers = [_numbers(line) if line is not None else ["–"] * 3 for line in of]
        cells = [cell for accuracy, _, cut in numbers for cell in (accuracy, cut)]
        table.add_row(*map(Text, (safe(name), f"{problems:,}", *cells, _published(published[name]))))
    for title, (parts, figure) in AVERAGES.items():
        values = [[found[*way, part]["accuracy"] for part in parts if (*way, part) in found] for way in ways]
        if any(len(of) == len(parts) for of in values):
            means = [percent(fmean(of)) if len(of) == len(parts) and None not in of else "–" for of in values]
            cells = [cell for mean in means for cell in (mean, "")]
            table.add_row(*map(Text, (f"mean: {title}", "", *cells, _published(figure))))
    console.print(table)
    console.print(Text(f"published: SAIL-VL2 8B ({TABLE_10}); ± is the standard error"))


def _published(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.1f}%"


def _numbers(line: Mapping[str, Any]) -> list[str]:
    error = line["standard_error"]
    accuracy = percent(line["accuracy"]) + (f" ± {100 * error:.1f}" if error is not None else "")
    return [
        accuracy,
        f"{line['response_tokens']:.1f}",
        percent(line["truncated"] / (line["problems"] * line["samples"])),
    ]
