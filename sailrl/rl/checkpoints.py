"""Checkpoints of a run: one folder each, complete or absent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sailrl.errors import CheckpointError

CHECKPOINTS, STATE_FILE = "checkpoints", "run.json"


@dataclass(slots=True)
class RunState:
    """How far a run is, and what its parts need to go on from here. JSON-able."""

    episode: int = 0
    """Episodes done."""
    step: int = 0
    """Updates done."""
    version: int = 0
    """Number of the weights that the engines hold."""
    collector: dict[str, Any] = field(default_factory=dict)
    clip: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)
    """Positions in the logs; what a run wrote after its last checkpoint is cut off when it resumes."""
    rollouts: dict[str, int] = field(default_factory=dict)


def latest(run_dir: Path) -> Path | None:
    """The newest complete checkpoint, or None. Half-written ones have another name and do not count."""
    folders = sorted((run_dir / CHECKPOINTS).glob("episode-*"))
    return folders[-1] if folders else None


def load(folder: Path) -> RunState:
    """The state in a checkpoint. Raises CheckpointError when it cannot be read."""
    try:
        return RunState(**json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{folder} cannot be resumed: {error}. Remove it to fall back on an older one."
        ) from error


def save(run_dir: Path, state: RunState, write: Callable[[Path], None], *, keep: int) -> Path:
    """Writes a checkpoint atomically: into a folder of another name, to the disk, then renamed. Keeps the newest.

    Args:
        write: puts everything but the run's own state into a folder.

    Raises:
        CheckpointError: the disk refuses; the last checkpoint is still whole.
    """
    parent = run_dir / CHECKPOINTS
    final, partial = parent / f"episode-{state.episode:06d}", parent / f".writing-{state.episode:06d}"
    try:
        for leftover in parent.glob(".writing-*"):
            shutil.rmtree(leftover)
        partial.mkdir(parents=True)
        write(partial)
        (partial / STATE_FILE).write_text(json.dumps(asdict(state)), encoding="utf-8")
        for path in [*partial.rglob("*"), partial]:
            _to_disk(path)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _to_disk(parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        before = latest(run_dir)
        kept = f"The last one, {before}, is whole" if before else "There is none before it"
        raise CheckpointError(
            f"cannot write checkpoint {final}: {error}. {kept}. Make room (a checkpoint takes about three times the "
            "model in float32), and run the same command to resume."
        ) from error
    for old in sorted(parent.glob("episode-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
