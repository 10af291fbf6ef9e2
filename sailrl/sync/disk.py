"""Weights through a folder, in shared memory where there is any. Works on CPUs and GPUs."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sailrl.errors import WeightSyncError

SHARED_MEMORY = Path("/dev/shm")
PREFIX, LOCK = "sailrl-weights-", "lock"
VERSIONS = 2
"""Kept at a time: the one that engines have, and the one before it, or the next one while it is written."""


class DiskSync:
    """The learner writes safetensors, every engine reads them. The folder of the previous version is kept: with it a
    failed probe can name the parameters that an engine did not update.

    Args:
        folder: where the versions are written; by default shared memory, or else the system's temporary folder.
        timeout_s: deadline in seconds of each step of a publish.
    """

    def __init__(self, learners: Any, pool: Any, *, timeout_s: float, folder: str | None = None) -> None:
        self._learners, self._pool, self._timeout_s = learners, pool, timeout_s
        self._root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_cleared(folder)))
        self._lock = os.open(self._root / f".{LOCK}", os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self._root / f".{LOCK}").rename(self._root / LOCK)  # gets its final name only once it is locked
        self.current: Path | None = None
        self.previous: Path | None = None

    async def publish(self, version: int) -> None:
        """See WeightSync.publish.

        Raises:
            WeightSyncError: the weights cannot be written.
        """
        folder = self._root / f"version-{version}"
        if self.previous is not None:
            shutil.rmtree(self.previous, ignore_errors=True)  # before the next one takes its room
        try:
            await asyncio.to_thread(self._learners.export, str(folder))
        except OSError as error:
            raise WeightSyncError(
                f"cannot write weights to {folder}: {error}. Free some space there and run again to resume."
            ) from error
        await self._pool.load_weights(str(folder), version, timeout_s=self._timeout_s)
        self.previous, self.current = self.current, folder

    def close(self) -> None:
        """Removes the folder; a second call does nothing."""
        shutil.rmtree(self._root, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def refuse_too_little_room(folder: str | None, needed: int) -> None:
    """Compares the free space of the folder that weights go through with what a run will put there.

    Args:
        folder: ``sync.folder``.
        needed: bytes.

    Raises:
        WeightSyncError: there is less.
    """
    parent = _cleared(folder)
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise WeightSyncError(
            f"{parent} has {free / 2**30:.2f} GiB free, and {VERSIONS} versions of the weights, which go through it to "
            f"the engines, take {needed / 2**30:.2f} GiB. Make room, or name a folder with more in sync.folder."
        )


def _cleared(folder: str | None) -> Path:
    """The configured folder, or the default one, without what killed runs left there."""
    parent = Path(folder).expanduser() if folder else default_folder()
    parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(parent)
    return parent


def default_folder() -> Path:
    """Where weights are written when ``sync.folder`` is null."""
    return SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())


def _remove_leftovers(parent: Path) -> None:
    """Removes the weights of runs that were killed: their lock files are no longer locked."""
    for lock in parent.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError):  # locked by a running process, or another user's file
            handle = os.open(lock, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(handle)
