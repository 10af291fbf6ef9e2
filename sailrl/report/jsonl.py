"""Files of JSON lines that survive crashes: whole lines only, and a way back to the size a checkpoint saw."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sailrl.data.rows import parse_line
from sailrl.errors import DataError

log = logging.getLogger(__name__)

SCAN_BYTES = 1 << 16
"""How much of a file's end is read at a time when its last whole line is looked for."""


class AppendOnlyFile:
    """Appends records as JSON lines; a crash leaves at most one partial last line, which the next opening removes.

    Every call of ``append`` reaches the operating system before it returns (a killed process loses nothing), and
    ``position`` also forces it to the disk, so a checkpoint never names bytes that a power cut can take away.

    A new file is started when ``resume_at`` is None; a file that is in the way, from a run that died before its first
    checkpoint, is kept as ``<name>.previous``.
    """

    def __init__(self, path: Path, *, resume_at: int | None = None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if resume_at is None and path.exists() and path.stat().st_size:
            os.replace(path, path.with_name(path.name + ".previous"))
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.size = self._rewind(resume_at or 0)
        """In bytes, so far."""

    @classmethod
    def going_on(cls, path: Path) -> AppendOnlyFile:
        """The file with every whole line that it has; a new one where there is none."""
        return cls(path, resume_at=path.stat().st_size if path.is_file() else None)

    def append(self, *records: Mapping[str, Any]) -> None:
        """Writes the records, one line each.

        Raises:
            DataError: the disk refuses; what was half written is taken back, the lines before it stay.
        """
        data = b"".join(encode(record) for record in records)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            os.ftruncate(self._fd, self.size)
            os.lseek(self._fd, self.size, os.SEEK_SET)
            raise DataError(
                f"cannot write {self.path}: {error.strerror}. "
                "Make room or fix the folder's rights; the same command then resumes from the last checkpoint."
            ) from error
        self.size += written

    def position(self) -> int:
        """Size of the file in bytes, all of it on the disk."""
        os.fsync(self._fd)
        return self.size

    def close(self) -> None:
        """Forces everything to the disk; a second call does nothing."""
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _rewind(self, offset: int) -> int:
        size = os.fstat(self._fd).st_size
        if size < offset:
            # Logs never decide whether a run can go on: someone may have removed a large one to make room.
            log.warning("%s has %d bytes, the checkpoint saw %d: earlier lines are lost", self.path, size, offset)
        end = self._last_line_end(min(size, offset))
        os.ftruncate(self._fd, end)
        os.lseek(self._fd, end, os.SEEK_SET)
        return end

    def _last_line_end(self, size: int) -> int:
        end = size
        while end > 0:
            start = max(0, end - SCAN_BYTES)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0


def encode(record: Mapping[str, Any]) -> bytes:
    """One record as a line of strict JSON in UTF-8. Non-finite numbers become null; unknown objects become text."""
    try:
        text = _dumps(record)
    except (ValueError, TypeError):  # a number that is not finite, or a key that is no text: rare
        text = _dumps(_finite(record))
    # A lone surrogate (half a character, which models do produce) has no UTF-8 form; its backslash form is JSON.
    return text.encode("utf-8", errors="backslashreplace") + b"\n"


def _dumps(record: Any) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False, default=_plain, separators=(",", ":"))


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (byte offset, record) for each whole line; a partial last line is left out.

    Raises:
        DataError: a line in the middle is not a JSON object.
    """
    with path.open("rb") as file:
        offset = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            yield offset, _decode(line, path, number)
            offset += len(line)


def read_run(path: Path, offset: int, same: Sequence[str]) -> list[dict[str, Any]]:
    """The record that starts at the byte ``offset`` and those behind it that agree with it in the fields ``same``."""
    found: list[dict[str, Any]] = []
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            record = _decode(line, path, None)
            if found and any(record.get(key) != found[0].get(key) for key in same):
                break
            found.append(record)
    return found


def _decode(line: bytes, path: Path, number: int | None) -> dict[str, Any]:
    where = str(path) if number is None else f"{path}, line {number}"
    record, _, fault = parse_line(line)
    if record is None:
        raise DataError(f"{where}: {fault}. Remove the line and try again.")
    return record


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
