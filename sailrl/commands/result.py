"""What a job has left in its run folder, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sailrl.config.schema import JobConfig
from sailrl.errors import DataError
from sailrl.report.evals import read_evals
from sailrl.report.run_data import load_run
from sailrl.rl import checkpoints

Ending = Literal["finished", "asked", "early"]


@dataclass(frozen=True)
class RunResult:
    """What a job has left in its run folder. Read from there when asked for:

    - `metrics`: the lines of `metrics.jsonl`, one per update or step;
    - `evals`: held-out evaluations, the lines with `eval/accuracy`; of `kind: eval` one per model and instruction;
    - `last`: the newest checkpoint of a `rlvr` run, or None; its folder `model` is a model;
    - `best`: of the checkpoints that `checkpoint.keep` has kept, the one with the highest held-out accuracy, and the
      newest of those; None where none was evaluated.
    """

    folder: Path
    """The run folder."""
    ended: Ending
    """`finished`; `asked`: ended by a signal, the same call goes on; `early`: the data has nothing more to teach."""
    outputs: Mapping[str, Path]
    """What the job has made, by name: `model` and `rollouts`, `kept`, `dropped`, `evidence` and `scored`, `fused`."""

    @classmethod
    def of(cls, config: JobConfig, folder: Path, ended: Ending) -> RunResult:
        """The result of a job that has run in ``folder``."""
        places = {name: place_of(config, folder, name) for name in config.outputs()}
        return cls(folder, ended, {name: path for name, path in places.items() if path.exists()})

    @property
    def metrics(self) -> list[Mapping[str, Any]]:
        return list(load_run(self.folder).updates)

    @property
    def evals(self) -> list[Mapping[str, Any]]:
        return [*load_run(self.folder).evals, *read_evals(self.folder)]

    @property
    def last(self) -> Path | None:
        return checkpoints.latest(self.folder)

    @property
    def best(self) -> Path | None:
        accuracy = {line["step"]: line["eval/accuracy"] for line in load_run(self.folder).evals}
        found = [
            (accuracy.get(checkpoints.load(path).step), path) for path in checkpoints.EPISODES.folders(self.folder)
        ]
        measured = [(value, path) for value, path in reversed(found) if value is not None]
        return max(measured, key=lambda one: one[0])[1] if measured else None


def place_of(job: JobConfig, folder: Path, output: str) -> Path:
    """The path of what a job makes; ``job.outputs()`` has the names. That of a model is in the newest checkpoint where
    there are checkpoints of RL."""
    checkpoint = checkpoints.latest(folder) if output == "model" else None
    return (checkpoint or folder) / job.outputs()[output]


def output_of(stage: JobConfig, folder: Path, output: str) -> str:
    """The path of what a finished stage has made.

    Raises:
        DataError: it is not there.
    """
    path = place_of(stage, folder, output)
    if not path.exists():
        raise DataError(
            f"the stage in {folder} should have made {path}, which was removed. Remove the folder to redo it."
        )
    return str(path)
