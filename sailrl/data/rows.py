"""Rows in files: JSONL and Parquet, streamed both ways, with line numbers and with bad rows as values.

Reading never loads a file as a whole, so memory does not grow with the number of rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from sailrl.data.jsonl import count_lines, dump_line, last_line_end, parse_line
from sailrl.data.kinds import refuse_other_kinds
from sailrl.errors import DataError

Row: TypeAlias = dict[str, Any]
OnBadRow: TypeAlias = Literal["error", "skip"]
FORMATS = (".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no row. The caller decides: skip it, stop with ``error()``, or keep its place in an output."""

    path: Path
    line: int
    rule: str
    """What was broken, in a few fixed words: ``not_utf8``, ``not_json``, ``not_an_object``."""
    detail: str

    def error(self) -> DataError:
        return DataError(
            f"{self.path}, line {self.line}: {self.detail}. Each line holds one JSON object. Fix or drop it."
        )


def read_rows(path: str | Path) -> Iterator[tuple[int, Row | BadRow]]:
    """Yields ``(line, row)`` for each row of a JSONL or Parquet file.

    Lines count from 1; blank ones are no rows. In Parquet the line is the row's number.

    Raises:
        DataError: the file cannot be read or is of another kind. Raised by the call, not by the first row.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}." if not path.exists() else f"{path} is not a file.")
    kind = file_format(path)
    refuse_other_kinds(path, kind)
    if kind == ".parquet":
        from sailrl.data.parquet import open_parquet

        return _read_parquet(path, open_parquet(path))
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    return _read_jsonl(path, file)


def good_rows(path: str | Path, *, on_bad_row: OnBadRow = "error") -> Iterator[tuple[int, Row]]:
    """``read_rows`` without the bad ones: they raise DataError, or are left out."""
    for line, row in read_rows(path):
        if not isinstance(row, BadRow):
            yield line, row
        elif on_bad_row == "error":
            raise row.error()


def file_format(path: Path) -> str:
    """``.jsonl`` or ``.parquet``, by the name's end."""
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path} is neither JSONL nor Parquet by its name; it must end in {', '.join(FORMATS)}.")
    return ".parquet" if path.suffix.lower() == ".parquet" else ".jsonl"


def count_rows(path: Path) -> int:
    """Rows of a file without parsing them (for progress bars; blank lines in JSONL count)."""
    if file_format(path) == ".parquet":
        from sailrl.data.parquet import open_parquet

        return int(open_parquet(path).metadata.num_rows)
    return count_lines(path)


class RowWriter:
    """Writes rows to a JSONL or Parquet file, as a context manager. Memory does not grow with the number of rows.

    JSONL grows line by line: a killed run loses at most the last one. Parquet needs all rows to know its types, so they
    wait in ``<path>.partial.jsonl`` until the block ends without an error.

    Args:
        resume: keep the complete rows that are there (``rows_kept`` of them) and go on behind them.
        finish: makes the Parquet file from the waiting rows; ``finish(lines, path)`` in place of finding the types.
    """

    def __init__(
        self, path: str | Path, *, resume: bool = False, finish: Callable[[Path, Path], None] | None = None
    ) -> None:
        self.path = Path(path)
        self._finish = finish or _find_types
        self._parquet = file_format(self.path) == ".parquet"
        self.lines = self.path.with_name(self.path.name + ".partial.jsonl") if self._parquet else self.path
        """Where the rows are while they come in."""
        self.rows_kept = 0
        try:
            self.lines.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.lines.open("r+b" if resume and self.lines.exists() else "wb")
        except OSError as error:
            raise DataError(f"cannot write {self.lines}: {error.strerror}.") from error
        if resume:
            self._file.truncate(last_line_end(self._file.fileno(), self._file.seek(0, os.SEEK_END)))
            self._file.seek(0, os.SEEK_END)
            self.rows_kept = count_lines(self.lines)

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds one row. Parquet from here keeps bytes only as base64 text."""
        self._file.write(dump_line(row))

    def flush(self) -> None:
        self._file.flush()

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if self._parquet and kind is None:
            self._finish(self.lines, self.path)
            self.lines.unlink()


def _read_jsonl(path: Path, file: IO[bytes]) -> Iterator[tuple[int, Row | BadRow]]:
    with file:
        for line, text in enumerate(file, 1):
            if text.isspace():
                continue
            row, rule, detail = parse_line(text)
            yield line, row if row is not None else BadRow(path, line, rule, detail)


def _read_parquet(path: Path, file: Any) -> Iterator[tuple[int, Row | BadRow]]:
    from sailrl.data.parquet import parquet_rows

    with file:
        yield from enumerate(parquet_rows(path, file), start=1)


def _find_types(lines: Path, target: Path) -> None:
    from sailrl.data.parquet import write_parquet

    write_parquet(target, lambda: (row for _, row in good_rows(lines)))
