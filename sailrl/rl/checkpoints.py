"""Checkpoints of a run: one folder each, complete or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sailrl.data.atomic import atomic
from sailrl.errors import CheckpointError
from sailrl.launch.sealed import CHECKPOINTS, Sealed

EPISODES = Sealed("episode-", "run.json")


@dataclass(slots=True)
class RunState:
    """The progress of a run, and the states of its parts. JSON-able."""

    episode: int = 0
    """Episodes done."""
    step: int = 0
    """Updates done."""
    version: int = 0
    """Number of the weights that the engines hold."""
    collector: dict[str, Any] = field(default_factory=dict)
    clip: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)
    """Positions in the logs; lines written after the last checkpoint are cut off when the run resumes."""
    rollouts: dict[str, int] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    """The identity of the experiment; see ``rl.identity``."""


def latest(run_dir: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    return next(reversed(EPISODES.folders(run_dir)), None)


def load(folder: Path) -> RunState:
    """The state in a checkpoint; see ``verify`` for its other files.

    Raises:
        CheckpointError: it cannot be read, or is not of this folder.
    """
    try:
        state = RunState(**EPISODES.read(folder))
    except TypeError as error:
        raise EPISODES.unusable(folder, f"{EPISODES.seal} is of another version of sailrl ({error})") from error
    if state.episode != EPISODES.number(folder):
        raise CheckpointError(
            f"{folder} holds the checkpoint of episode {state.episode}: a folder is named after its episode. Remove "
            f"it, or name it {_name(state.episode)}."
        )
    return state


def verify(folder: Path) -> None:
    """Raises CheckpointError when a file of the checkpoint is not what was written."""
    EPISODES.verify(folder)


def save(run_dir: Path, state: RunState, write: Callable[[Path], None], *, keep: int) -> Path:
    """Writes a checkpoint whole and to the disk, or not at all; see ``atomic``. Removes all but the newest ``keep``.

    Args:
        write: puts everything but the run's own state into a folder.

    Raises:
        CheckpointError: the disk refuses; the last checkpoint is still whole.
    """
    parent = run_dir / CHECKPOINTS
    final = parent / _name(state.episode)
    try:
        for leftover in parent.glob(".writing-*"):  # of a killed run, which may have been at another episode
            shutil.rmtree(leftover)
        with atomic(final) as partial:
            partial.mkdir(parents=True)
            write(partial)
            EPISODES.write(partial, asdict(state))
            for path in [*partial.rglob("*"), partial]:
                _to_disk(path)
            if final.exists():
                shutil.rmtree(final)
        _to_disk(parent)
    except OSError as error:
        before = latest(run_dir)
        kept = f"The last one, {before}, is whole" if before else "There is none before it"
        raise CheckpointError(
            f"cannot write checkpoint {final}: {error}. {kept}. Make room (a checkpoint takes about three times the "
            "model in float32), and run the same command to resume."
        ) from error
    for old in EPISODES.folders(run_dir)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _name(episode: int) -> str:
    return f"{EPISODES.prefix}{episode:06d}"


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
