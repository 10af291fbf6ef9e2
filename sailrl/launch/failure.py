"""The message for an error that is not a SailError: an error of the machine, or a fault in the code."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sailrl.errors import DataError, Fault, SailError
from sailrl.plugins import ALIAS
from sailrl.report.safe_text import safe

TRACEBACK = "traceback.txt"
"""In the run folder: the traceback of the last fault."""
_FULL = re.compile(r"No space left on device|Disk quota exceeded|os error (28|122)\b|inline_container\.cc")
"""Texts of errors without an errno that mean a full disk: of the system, safetensors and torch's file writer."""
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.EIO)


def explained(error: Exception, folder: Path | None = None) -> SailError | Fault:
    """The error to print in place of ``error``: a SailError unchanged, else an error of the machine, or a fault.

    Args:
        folder: the run folder; a fault's traceback is written there. None: into the system's temporary folder.
    """
    if isinstance(error, SailError | Fault):
        return error
    return _refused(error, folder) or _fault(error, folder)


def _refused(error: Exception, folder: Path | None) -> SailError | None:
    """The message for a full disk, missing rights or too little memory, anywhere in the chain of causes; None for
    another error."""
    for cause in _causes(error):
        number = cause.errno if isinstance(cause, OSError) else None
        named = getattr(cause, "filename", None)
        place = Path(named) if isinstance(named, str) else folder
        where = "a file" if place is None else str(place)
        if number in (errno.ENOSPC, errno.EDQUOT) or (not isinstance(cause, SailError) and _FULL.search(str(cause))):
            return DataError(
                f"the disk is full: {where} could not be written ({_reason(cause)}{_room(place)}). Make room there and "
                "run the same command again; what was saved before is whole."
            )
        if number in _FORBIDDEN:
            return DataError(
                f"{where}: {_reason(cause)}. Change the rights or limits of that path, or name another one."
            )
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":  # torch's, not imported here
            return DataError(
                f"out of memory: {_reason(cause)}. Lower max_tokens_per_microbatch, or use a machine with more memory."
            )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and the errors that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__


def _reason(cause: BaseException) -> str:
    return (cause.strerror if isinstance(cause, OSError) else None) or safe(str(cause), 200) or "no details"


def _room(place: Path | None) -> str:
    """The free space on the disk of a file or folder; empty when it is unknown."""
    if place is None:
        return ""
    folder = next((folder for folder in (place, *place.absolute().parents) if folder.is_dir()), place)
    with suppress(OSError):
        return f"; {shutil.disk_usage(folder).free / 2**30:.2f} GiB are free"
    return ""


def _fault(error: Exception, folder: Path | None) -> Fault:
    text = "".join(traceback.format_exception(error))
    saved = _saved(text, folder)
    if saved is None:  # it can only be printed
        print(text, file=sys.stderr)
    where = f"The traceback is in {saved}." if saved else "The traceback is printed above; it could not be saved."
    own = _users_line(error)
    blame = (
        f"It was raised in your code, {own}."
        if own
        else "This is a fault in sailrl, not a mistake of yours. Please report it with its traceback."
    )
    return Fault(f"{type(error).__name__}: {safe(str(error), 500) or '(no message)'}\n{blame} {where}")


def _saved(text: str, folder: Path | None) -> Path | None:
    """The file with the traceback; None when it cannot be written."""
    data = text.encode("utf-8", "backslashreplace")
    if folder is not None and folder.is_dir():
        path = folder / TRACEBACK
        try:
            path.write_bytes(data)
            return path
        except OSError:
            with suppress(OSError):
                path.unlink()
    with suppress(OSError):
        handle, name = tempfile.mkstemp(prefix="sailrl-", suffix=f"-{TRACEBACK}")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return Path(name)
    return None


def _users_line(error: Exception) -> str | None:
    """File and line of the last call into the user's code (a plug-in given as a file); None if there is none."""
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).startswith(ALIAS):
            found = f"{frame.f_code.co_filename}, line {line}"
    return found
