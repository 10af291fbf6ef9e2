"""Rows in files, streamed, with line numbers and with bad rows as values. JSONL and Parquet are written, too.

Reading never loads a file as a whole, so memory does not grow with the number of rows.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from sailrl.config.sources import ROW_FILES, row_format
from sailrl.data.jsonl import count_lines, dump_line, last_line_end, parse_line
from sailrl.data.kinds import is_packed, open_unpacked, refuse_other_kinds
from sailrl.data.tables import is_json_list, json_list_rows, table_rows
from sailrl.errors import DataError

Row: TypeAlias = dict[str, Any]
OnBadRow: TypeAlias = Literal["error", "skip"]
WRITTEN = (".jsonl", ".ndjson", ".parquet")
"""Ends of the names of files that are written."""
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_ENDS = f"{', '.join(ROW_FILES)}, all but the last also with .gz"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no row. The caller decides: skip it, stop with ``error()``, or keep its place in an output."""

    path: Path
    line: int
    rule: str
    """What was broken, in a few fixed words: ``not_utf8``, ``not_json``, ``not_an_object``, ``not_as_header``."""
    detail: str

    def error(self) -> DataError:
        """The error that names the file and the line."""
        return DataError(f"{self.path}, line {self.line}: {self.detail}. Each row is one object. Fix or drop it.")


def read_rows(path: str | Path) -> Iterator[tuple[int, Row | BadRow]]:
    """Yields ``(line, row)`` for each row of a file: JSONL, JSON, CSV, TSV, each also with ``.gz``, or Parquet.

    Lines count from 1; blank ones are no rows. In Parquet and JSON the line is the row's number.

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
    file = open_unpacked(path)
    if kind in _DELIMITERS:
        rows = _read_table(path, file, _DELIMITERS[kind])
    elif kind == ".json" and is_json_list(file):
        rows = _read_json(path, file)
    else:
        rows = _read_jsonl(path, file)
    return _unpacked(path, rows) if is_packed(path) else rows


def good_rows(path: str | Path, *, on_bad_row: OnBadRow = "error") -> Iterator[tuple[int, Row]]:
    """``read_rows`` without the bad ones: they raise DataError, or are left out."""
    for line, row in read_rows(path):
        if not isinstance(row, BadRow):
            yield line, row
        elif on_bad_row == "error":
            raise row.error()


def file_format(path: Path) -> str:
    """``.jsonl``, ``.json``, ``.csv``, ``.tsv`` or ``.parquet``, by the name's end.

    Raises:
        DataError: the name ends in none of them.
    """
    kind = row_format(path)
    if kind is None:
        raise DataError(f"{path} does not say by its name how rows are written in it; it must end in {_ENDS}.")
    if kind == ".parquet" and is_packed(path):
        raise DataError(f"{path} is compressed, and so is Parquet within. Unpack it with gzip -d.")
    return kind


def written_format(path: Path) -> str:
    """``.jsonl`` or ``.parquet``, for a file that is to be written.

    Raises:
        DataError: the name ends in neither.
    """
    if path.suffix.lower() not in WRITTEN:
        raise DataError(f"{path} is neither JSONL nor Parquet by its name; it must end in {', '.join(WRITTEN)}.")
    return file_format(path)


def count_rows(path: Path) -> int:
    """Rows of a file, for progress bars: of JSONL and tables its lines, blank ones too."""
    kind = file_format(path)
    if kind == ".parquet":
        from sailrl.data.parquet import open_parquet

        return int(open_parquet(path).metadata.num_rows)
    if kind == ".json" or is_packed(path):
        return sum(1 for _ in read_rows(path))
    return max(0, count_lines(path) - (kind in _DELIMITERS))


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
        self._parquet = written_format(self.path) == ".parquet"
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
        """Hands the rows written so far to the system."""
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


def _read_table(path: Path, file: IO[bytes], delimiter: str) -> Iterator[tuple[int, Row | BadRow]]:
    with file:
        for line, row in table_rows(path, file, delimiter):
            yield line, row if isinstance(row, dict) else BadRow(path, line, "not_as_header", row)


def _read_json(path: Path, file: IO[bytes]) -> Iterator[tuple[int, Row | BadRow]]:
    with file:
        for number, row in json_list_rows(path, file):
            good = isinstance(row, dict)
            yield number, row if good else BadRow(path, number, "not_an_object", f"a JSON {type(row).__name__}")


def _unpacked(path: Path, rows: Iterator[tuple[int, Row | BadRow]]) -> Iterator[tuple[int, Row | BadRow]]:
    try:
        yield from rows
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot unpack {path}: {error}. Copy or download it again.") from error


def _read_parquet(path: Path, file: Any) -> Iterator[tuple[int, Row | BadRow]]:
    from sailrl.data.parquet import parquet_rows

    with file:
        yield from enumerate(parquet_rows(path, file), start=1)


def _find_types(lines: Path, target: Path) -> None:
    from sailrl.data.parquet import write_parquet

    write_parquet(target, lambda: (row for _, row in good_rows(lines)))
