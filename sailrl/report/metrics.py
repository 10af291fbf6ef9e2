"""metrics.jsonl and trackers: one line per update, one per held-out evaluation."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sailrl.data.jsonl import AppendOnlyFile
from sailrl.report.metric_table import EVAL_METRICS, SFT_METRICS, UPDATE_METRICS, fixed_keys
from sailrl.report.trackers import Say, Trackers

METRICS_FILE = "metrics.jsonl"

RLVR_KEYS = fixed_keys(UPDATE_METRICS)
"""Keys of every update line of an RL run, with ``reward/<name>`` for each reward; scripts rely on these names."""
EVAL_KEYS = fixed_keys(EVAL_METRICS)
"""Keys of every evaluation line."""
SFT_KEYS = fixed_keys(SFT_METRICS)
"""Keys of every line of a supervised stage."""


class MetricsLog:
    """Appends to ``metrics.jsonl``, which can go back to where a checkpoint was taken, and hands on to trackers.

    A number that is not finite is written as null, and the line gets ``nonfinite: {key: "nan" | "inf" | "-inf"}``, so
    that every line is valid JSON and nothing is hidden. None (not measured) is null as well, without an entry there.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        resume_at: Mapping[str, Any] | None = None,
        required: Sequence[str] = RLVR_KEYS,
        trackers: tuple[str, ...] = ("tensorboard",),
        settings: Mapping[str, Any] | None = None,
        say: Say = print,
    ) -> None:
        self._required = required
        self._step = int(resume_at["step"]) if resume_at else -1
        self._file = AppendOnlyFile(run_dir / METRICS_FILE, resume_at=int(resume_at["bytes"]) if resume_at else None)
        self._trackers = Trackers(trackers, run_dir, purge_step=self._step + 1, settings=settings or {}, say=say)

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes the line of update number ``step`` (1 is the first).

        Raises:
            ValueError: a key of the contract is missing.
            TypeError: a value is not a number.
            OSError: the disk refuses.
        """
        self._append(step, values, self._required)

    def log_eval(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes a held-out evaluation of the weights after ``step`` updates; raises like ``log``."""
        self._append(step, values, EVAL_KEYS)

    def position(self) -> dict[str, int]:
        """Where the log is, for ``resume_at``; everything before it is on the disk."""
        return {"bytes": self._file.position(), "step": self._step}

    def close(self) -> None:
        """A second call does nothing."""
        self._file.close()
        self._trackers.close()

    def _append(self, step: int, values: Mapping[str, float | None], required: Sequence[str]) -> None:
        line: dict[str, Any] = {"step": step, **values}
        missing = [key for key in required if key not in line]
        if missing:
            raise ValueError(f"the metrics of step {step} lack {', '.join(missing)}")
        measured: dict[str, float] = {}
        nonfinite: dict[str, str] = {}
        for key, value in line.items():
            if value is None:
                continue
            if not isinstance(value, numbers.Real):
                raise TypeError(f"metric {key!r} is a {type(value).__name__}, not a number")
            if not math.isfinite(value):
                nonfinite[key] = str(float(value))
                line[key] = None
            elif key != "step":
                # Also turns numpy scalars, which JSON does not know, into Python's.
                line[key] = value if isinstance(value, int) else float(value)
                measured[key] = float(value)
        if nonfinite:
            line["nonfinite"] = nonfinite
        self._file.append(line)
        self._trackers.log(step, measured)
        self._step = step
