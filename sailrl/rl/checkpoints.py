"""Checkpoints of a run: one folder each, complete or absent, its files with checksums.

``run.json`` in it holds the run's own state, size and hash of every other file, and a checksum of itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sailrl.errors import CheckpointError
from sailrl.launch.fingerprint import FileSums, digest, file_fault, file_sums

CHECKPOINTS, STATE_FILE, CHECKSUM = "checkpoints", "run.json", "checksum"
_NAME = re.compile(r"episode-[0-9]+")


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
    """The newest complete checkpoint, or None."""
    return max(_folders(run_dir), key=_episode, default=None)


def load(folder: Path) -> RunState:
    """The state in a checkpoint. Raises CheckpointError when it cannot be read, or is not of this folder."""
    return _read(folder)[0]


def verify(folder: Path) -> None:
    """Raises CheckpointError when a file of the checkpoint is missing, cut or damaged; names it, and the way on."""
    if (fault := file_fault(folder, _read(folder)[1])) is not None:
        raise _unusable(folder, fault)


def _read(folder: Path) -> tuple[RunState, FileSums]:
    try:
        saved = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        checksum = saved.pop(CHECKSUM)
        state, files = RunState(**saved["state"]), saved["files"]
    except KeyError as error:
        raise _unusable(folder, f"{STATE_FILE} has no {error}, as before sailrl wrote checksums") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _unusable(folder, f"{STATE_FILE} cannot be read ({error})") from error
    if checksum != digest(saved):
        raise _unusable(folder, f"{STATE_FILE} is damaged: its checksum is not that of what was written")
    if state.episode != _episode(folder):
        raise CheckpointError(
            f"{folder} holds the checkpoint of episode {state.episode}: a folder is named after its episode. Remove "
            f"it, or name it {_name(state.episode)}."
        )
    return state, files


def _unusable(folder: Path, fault: str) -> CheckpointError:
    older = [found for found in _folders(folder.parent.parent) if _episode(found) < _episode(folder)]
    if older:
        advice = f"Remove {folder}: the same command then goes on from {max(older, key=_episode)}."
    else:
        advice = "There is no older one. Restore the file, or start again with another run.dir."
    return CheckpointError(f"{folder} cannot be resumed: {fault}. {advice}")


def _folders(run_dir: Path) -> list[Path]:
    """The checkpoints. What else lies there, half-written ones, copies and archives, has other names."""
    return [path for path in (run_dir / CHECKPOINTS).glob("episode-*") if _NAME.fullmatch(path.name) and path.is_dir()]


def _name(episode: int) -> str:
    return f"episode-{episode:06d}"


def _episode(folder: Path) -> int:
    return int(folder.name.removeprefix("episode-"))


def save(run_dir: Path, state: RunState, write: Callable[[Path], None], *, keep: int) -> Path:
    """Writes a checkpoint atomically: into a folder of another name, to the disk, then renamed. Keeps the newest.

    Args:
        write: puts everything but the run's own state into a folder.

    Raises:
        CheckpointError: the disk refuses; the last checkpoint is still whole.
    """
    parent = run_dir / CHECKPOINTS
    final, partial = parent / _name(state.episode), parent / f".writing-{state.episode:06d}"
    try:
        for leftover in parent.glob(".writing-*"):
            shutil.rmtree(leftover)
        partial.mkdir(parents=True)
        write(partial)
        saved = json.loads(json.dumps({"state": asdict(state), "files": file_sums(partial)}))
        (partial / STATE_FILE).write_text(json.dumps({**saved, CHECKSUM: digest(saved)}), encoding="utf-8")
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
    for old in sorted(_folders(run_dir), key=_episode)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
