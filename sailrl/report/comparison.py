"""One page about several runs: what differs in their configurations first, then their curves over updates and time."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from sailrl.errors import DataError
from sailrl.report.chart import MUTED, new_figure, style
from sailrl.report.html import document, remark, section, table, write_page
from sailrl.report.picture import SMOOTHING, smooth
from sailrl.report.run_data import RunData, Series, load_run
from sailrl.report.safe_text import safe
from sailrl.report.shown import metric, percent, span

COMPARISON_FILE = "comparison.html"
CURVES = (
    ("eval/accuracy", "held-out accuracy"),
    ("reward/mean", "reward, mean"),
    ("nll", "loss (nats per response token)"),
    ("response_tokens/mean", "response length (tokens)"),
    ("entropy", "entropy (nats per token)"),
)
"""What is drawn, where a run has it."""
MOST_DIFFERENCES = 60
NOT_SET = "–"


def write_comparison(run_dirs: Sequence[Path], out: Path | None = None) -> Path:
    """Writes the page to ``out``, by default ``comparison.html`` in the first run folder, and returns the path.

    Raises:
        DataError: a folder has no metrics, a run is named twice, or the page cannot be written.
    """
    runs = [load_run(path) for path in run_dirs]
    for run in runs:
        if not (run.updates or run.evals):
            raise DataError(f"{run.run_dir} has nothing to compare: no metrics.jsonl with a whole line.")
    names = _names(run_dirs)
    sections = (
        section("Differences of the configurations", _differences(run_dirs, names)),
        section("Results", _results(runs, names)),
        section("Curves", _curves(runs, names)),
    )
    text = document(", ".join(names), f"{len(runs)} runs", sections)
    return write_page(out or run_dirs[0] / COMPARISON_FILE, text)


def _names(run_dirs: Sequence[Path]) -> list[str]:
    """The folders' names; with their parents where two are alike."""
    paths = [path.resolve() for path in run_dirs]
    if len(set(paths)) < len(paths):
        raise DataError("a run is named twice. Name each run folder once.")
    short = [safe(path.name) for path in paths]
    return short if len(set(short)) == len(short) else [safe(f"{path.parent.name}/{path.name}") for path in paths]


def _differences(run_dirs: Sequence[Path], names: Sequence[str]) -> str:
    settings = [_settings(path) for path in run_dirs]
    keys = dict.fromkeys(key for one in settings for key in one)
    rows = [(key, *(one.get(key, NOT_SET) for one in settings)) for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1 and row[0] != "run.dir"]
    if not rows:
        return remark("The configurations are the same.")
    more = len(rows) - MOST_DIFFERENCES
    return table(("setting", *names), rows[:MOST_DIFFERENCES]) + (remark(f"{more:,} more") if more > 0 else "")


def _settings(run_dir: Path) -> dict[str, str]:
    """The settings of ``resolved.yaml`` by dotted key, as text; none without the file or where it is damaged."""
    path = run_dir / "resolved.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else {}
    except yaml.YAMLError:
        data = {}
    found: dict[str, str] = {}

    def walk(value: Any, key: str) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                walk(inner, f"{key}.{name}" if key else str(name))
        else:
            found[key] = str(value)

    walk(data, "")
    return found


def _results(runs: Sequence[RunData], names: Sequence[str]) -> str:
    def row(name: str, run: RunData) -> tuple[str, ...]:
        accuracy, reward = run.series("eval/accuracy").values, run.series("reward/mean").values
        best = percent(max(accuracy)) if accuracy else NOT_SET
        last = percent(accuracy[-1]) if accuracy else NOT_SET
        tokens = run.series("tokens/trained_per_s").values
        speed = metric(sum(tokens) / len(tokens)) if tokens else NOT_SET
        return (
            name,
            str(run.last_step),
            span(run.training_s),
            best,
            last,
            metric(reward[-1] if reward else None),
            speed,
        )

    heads = ("run", "updates", "time", "best held-out", "last held-out", "last reward", "tokens/s")
    return table(heads, [row(name, run) for name, run in zip(names, runs, strict=True)])


def _curves(runs: Sequence[RunData], names: Sequence[str]) -> str:
    drawn = [(key, title) for key, title in CURVES if any(run.series(key).values for run in runs)]
    try:
        figure = new_figure(13, 2.6 * len(drawn) + 0.6)
    except ImportError:
        return remark("No picture: matplotlib is not installed (pip install matplotlib).")
    axes = figure.subplots(len(drawn), 2, squeeze=False)
    for (key, title), (by_update, by_time) in zip(drawn, axes, strict=True):
        for name, run in zip(names, runs, strict=True):
            series, minutes = run.series(key), _minutes(run)
            values = smooth(series.values, max(1, round(SMOOTHING * len(series.values))))
            times = [minutes.get(step, 0.0) for step in series.steps]
            marker = "o" if key.startswith("eval/") or len(values) == 1 else None
            by_update.plot(series.steps, values, label=name.replace("$", r"\$"), marker=marker, markersize=4)
            by_time.plot(times, values, marker=marker, markersize=4)
        for one, unit in ((by_update, "update"), (by_time, "minutes of training")):
            style(one)
            one.set_title(title, fontsize=9.5, loc="left")
            one.set_xlabel(unit, color=MUTED, fontsize=9)
    axes[0][0].legend(frameon=False, fontsize=9, loc="best")
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    encoded = base64.b64encode(picture.getvalue()).decode()
    return f'<img alt="{escape("curves of " + ", ".join(names))}" src="data:image/png;base64,{encoded}">'


def _minutes(run: RunData) -> dict[int, float]:
    """Minutes of training after each update; 0 before the first."""
    series: Series = run.series("time/step_s")
    return {0: 0.0} | dict(zip(series.steps, (seconds / 60 for seconds in accumulate(series.values)), strict=True))
