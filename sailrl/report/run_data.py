"""A run folder's metrics, read back for pictures, pages and summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sailrl.data import jsonl
from sailrl.errors import DataError
from sailrl.report.metrics import METRICS_FILE
from sailrl.report.shown import climb, counted, span


@dataclass(frozen=True, slots=True)
class Series:
    """One number over the updates of a run, where it was measured."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True)
class RunData:
    """The lines of metrics.jsonl: updates and held-out evaluations, each in the order of the run."""

    run_dir: Path
    updates: Sequence[Mapping[str, Any]]
    evals: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.run_dir.resolve().name

    def series(self, key: str) -> Series:
        """The values of one metric, those that are numbers."""
        lines = self.evals if key.startswith("eval/") else self.updates
        found = [(line["step"], line[key]) for line in lines if isinstance(line.get(key), int | float)]
        return Series([step for step, _ in found], [value for _, value in found])

    @property
    def supervised(self) -> bool:
        """Whether this is a supervised stage: its steps have a loss, and no rewards."""
        return bool(self.updates) and "nll" in self.updates[0]

    @property
    def took(self) -> str:
        """``54 updates in 2 min 3 s``; steps of a supervised stage."""
        return f"{counted(self.last_step, 'step' if self.supervised else 'update')} in {span(self.training_s)}"

    @property
    def reached(self) -> tuple[str, str] | None:
        """The name of the run's main number, and its first and last value; None when it was not measured."""
        held_out, loss = self.series("eval/accuracy").values, self.series("nll").values
        if held_out:
            return "held-out accuracy", climb(held_out)
        return ("loss", f"{loss[0]:.3f} → {loss[-1]:.3f} nats per token") if loss else None

    @property
    def headline(self) -> str:
        """Both in one line."""
        return f"{' '.join(self.reached)}, {self.took}" if self.reached else self.took

    @property
    def last_step(self) -> int:
        """Number of updates done."""
        return max((line["step"] for line in self.updates), default=0)

    @property
    def training_s(self) -> float:
        """Wall time of all updates in seconds, over all starts of the run."""
        return sum(self.series("time/step_s").values)


def load_run(run_dir: Path) -> RunData:
    """Reads the metrics of a run; a run that has just begun has none.

    Raises:
        DataError: there is no such folder, or a line is broken.
    """
    if not run_dir.is_dir():
        raise DataError(
            f"there is no run folder {run_dir}. Give the folder that `sailrl run` printed, e.g. runs/rlvr_tiny."
        )
    path = run_dir / METRICS_FILE
    lines = [line for _, line in jsonl.read(path)] if path.is_file() else []
    lines = [line for line in lines if isinstance(line.get("step"), int)]
    evals = [line for line in lines if "eval/accuracy" in line]
    return RunData(run_dir, [line for line in lines if "eval/accuracy" not in line], evals)
