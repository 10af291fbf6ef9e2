"""The summary at the end of a run: its result, its files, and the next commands."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from sailrl.errors import DataError
from sailrl.report.html import write_report
from sailrl.report.picture import curve_png
from sailrl.report.run_data import load_run
from sailrl.report.safe_text import safe
from sailrl.report.traces import ROLLOUTS_FILE

log = logging.getLogger(__name__)


def print_summary(run_dir: Path, command: str | None = None) -> None:
    """Draws the picture, writes the page and prints the summary; ``command`` is the one that started the run."""
    picture = _attempt(curve_png, run_dir)
    page = _attempt(write_report, run_dir)
    print(summary(run_dir, picture=picture, page=page, command=command))


def summary(run_dir: Path, *, picture: Path | None = None, page: Path | None = None, command: str | None = None) -> str:
    """The text of the closing summary."""
    run = load_run(run_dir)
    lines = [f"{safe(run.name)}: {run.took}"]
    if run.reached:
        lines.append(f"{run.reached[0]:18} {run.reached[1]}")
    lines.append(f"run folder         {run_dir}")
    if picture:
        lines.append(f"curve              {picture}")
    if page:
        lines.append(f"report             {page}")
    if (run_dir / ROLLOUTS_FILE).is_file():
        lines.append(f"score again        sailrl score {run_dir / ROLLOUTS_FILE} --out scored.jsonl")
    if command:
        lines.append(f"train on           {command} batch.episodes=N (it resumes from the last checkpoint)")
    return "\n".join(lines)


def _attempt(write: Callable[[Path], Path], run_dir: Path) -> Path | None:
    # A finished run is not failed by a missing picture or page.
    try:
        return write(run_dir)
    except (DataError, ImportError, OSError) as error:
        log.warning("%s", error)
        return None
