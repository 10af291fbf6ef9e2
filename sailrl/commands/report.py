"""``sailrl report``: one self-contained page about a run folder."""

from __future__ import annotations

from pathlib import Path

from sailrl.report.html import write_report


def report_job(run_dir: Path, out: Path | None) -> None:
    """Writes the page and prints its path."""
    print(write_report(run_dir, out))
