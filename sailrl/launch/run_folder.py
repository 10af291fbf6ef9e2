"""The run folder: one run at a time works in it, and its files are complete or absent."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sailrl.data.atomic import atomic
from sailrl.errors import ConfigError

LOCK, RESOLVED, BAD_ROWS = ".lock", "resolved.yaml", "bad_rows.txt"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Makes the folder and locks it against other runs. The kernel releases the lock when the process ends.

    Raises:
        ConfigError: the folder cannot be written, or another process is running in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot make the run folder {folder}: {error}. Choose another with run.dir=...") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 32).decode(errors="replace").strip()
            raise ConfigError(
                f"another run, process {owner or 'unknown'}, is working in {folder}, and two would overwrite each "
                "other. Wait for it or stop it, or give this one a folder of its own with run.dir=..."
            ) from None
        os.truncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)


def is_claimed(folder: Path) -> bool:
    """Whether a run is working in the folder now."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def write_whole(folder: Path, write: Callable[[Path], object]) -> None:
    """Calls ``write`` with an empty folder that gets the name ``folder`` when it returns; see ``atomic``."""
    with atomic(folder) as partial:
        partial.mkdir(parents=True)
        write(partial)


def write_file(path: Path, text: str) -> None:
    """Writes a text file; see ``atomic``."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def list_left_out(folder: Path, rows: Sequence[object], notify: Callable[[str], None]) -> None:
    """Writes ``bad_rows.txt``, one bad row per line with the rule it breaks; without any, removes that file."""
    path = folder / BAD_ROWS
    path.unlink(missing_ok=True)
    if rows:
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8", errors="backslashreplace")
        notify(f"left out {len(rows):,} bad rows, listed in {path}")
