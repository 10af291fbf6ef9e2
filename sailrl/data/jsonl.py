"""Lines of JSON: how one is read and written, and files of them that survive crashes.

What is written is valid JSON even where Python's values are not (NaN, lone surrogates, bytes). A killed process leaves
at most one partial last line, which the next opening removes.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
            OSError: the disk refuses; what was half written is taken back, the lines before it stay.
        """
        data = b"".join(map(dump_line, records))
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            os.ftruncate(self._fd, self.size)
            os.lseek(self._fd, self.size, os.SEEK_SET)
            raise OSError(error.errno, error.strerror, str(self.path)) from error  # the system did not name the file
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
        end = last_line_end(self._fd, min(size, offset))
        os.ftruncate(self._fd, end)
        os.lseek(self._fd, end, os.SEEK_SET)
        return end


def last_line_end(fd: int, size: int) -> int:
    """The byte behind the last line break among the first ``size`` bytes of an open file; 0 where there is none."""
    end = size
    while end > 0:
        start = max(0, end - SCAN_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def count_lines(path: Path) -> int:
    """Lines of a file, blank ones and a partial last one included."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")


def parse_line(text: bytes) -> tuple[dict[str, Any] | None, str, str]:
    """``(row, "", "")``, or ``(None, rule, detail)`` for a line that is no row."""
    try:
        value = json.loads(text.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        return None, "not_utf8", f"not UTF-8 ({error.reason} at byte {error.start})"
    except json.JSONDecodeError as error:
        return None, "not_json", f"not JSON ({error.msg} at character {error.pos})"
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, brackets 10,000 deep
        return None, "not_json", f"not usable JSON ({type(error).__name__})"
    if not isinstance(value, dict):
        return None, "not_an_object", f"a JSON {type(value).__name__}, not an object"
    if any(text.count(b'"%s"' % key.encode("utf-8", "replace")) > 1 for key in value):
        # Perhaps a value or a deeper key; only then is it worth a second, slower reading.
        first: list[tuple[str, Any]] = json.loads(text.decode("utf-8").removeprefix("\ufeff"), object_pairs_hook=list)
        if twice := next((key for key, times in Counter(key for key, _ in first).items() if times > 1), None):
            return None, "repeated_key", f"has the key {twice!r} more than once"
    return value, "", ""


def dump_line(record: Mapping[str, Any]) -> bytes:
    """One line of strict JSON in UTF-8: NaN and infinities become null, lone surrogates are escaped, bytes become
    base64, and objects that JSON does not know (dates, paths) become text.

    Raises:
        RecursionError: the record is nested as deep as Python can read but no longer write.
    """
    try:
        text = _dumps(record)
    except (ValueError, TypeError):  # a number that is not finite, or a key that is no text: rare
        text = _dumps(_finite(record))
    # A lone surrogate (half a character, which models do produce) has no UTF-8 form; its backslash form is JSON.
    return text.encode("utf-8", errors="backslashreplace") + b"\n"


def _dumps(record: Any) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False, default=_plain, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


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
