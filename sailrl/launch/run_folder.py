"""The run folder while a run has it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sailrl.config.base import Section
from sailrl.config.load import resolved_yaml
from sailrl.errors import ConfigError

LOCK, RESOLVED, BAD_ROWS = ".lock", "resolved.yaml", "bad_rows.txt"


@contextmanager
def claimed(folder: Path, config: Section) -> Iterator[None]:
    """Makes the folder, keeps other runs out of it, and writes down the configuration with all its defaults.

    The lock is the kernel's, so that it ends with the process however that dies.

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
        (folder / RESOLVED).write_text(resolved_yaml(config), encoding="utf-8")
        yield
    finally:
        os.close(handle)


def is_claimed(folder: Path) -> bool:
    """Whether a run is working in the folder."""
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
    """Lets ``write`` fill a folder that gets its name only when it is whole; nothing of it stays when that fails."""
    partial = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)


def write_file(path: Path, text: str) -> None:
    """Writes a file that gets its name only when it is whole, since a process may be killed at any time."""
    partial = path.with_name(f".writing-{path.name}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def list_left_out(folder: Path, rows: Sequence[object], say: Callable[[str], None]) -> None:
    """Lists bad rows, one per line with its rule, in ``bad_rows.txt``; without any there is no such file."""
    path = folder / BAD_ROWS
    path.unlink(missing_ok=True)
    if rows:
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        say(f"left out {len(rows):,} bad rows, listed in {path}")
