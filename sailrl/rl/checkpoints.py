"""Checkpoints of a run: one folder each, complete or absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sailrl.errors import CheckpointError
from sailrl.launch.sealed import Sealed

EPISODES = Sealed("episode-", "run.json", digits=6)


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
    return EPISODES.latest(run_dir)


def load(folder: Path) -> RunState:
    """The state in a checkpoint; see ``verify`` for its other files.

    Raises:
        CheckpointError: it cannot be read, or is not of this folder.
    """
    state = EPISODES.load(folder, RunState)
    if state.episode != EPISODES.number(folder):
        raise CheckpointError(
            f"{folder} holds the checkpoint of episode {state.episode}: a folder is named after its episode. Remove "
            f"it, or name it {EPISODES.name(state.episode)}."
        )
    return state


def verify(folder: Path) -> None:
    """Raises CheckpointError when a file of the checkpoint is not what was written."""
    EPISODES.verify(folder)


def save(run_dir: Path, state: RunState, write: Callable[[Path], None], *, keep: int) -> Path:
    """See ``Sealed.save``."""
    return EPISODES.save(run_dir, state.episode, asdict(state), write, keep=keep)
