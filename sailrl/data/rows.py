"""Rows in files: JSONL and Parquet, streamed both ways, with line numbers and with bad rows as values.

Reading never loads a file as a whole, so memory does not grow with the number of rows. What is written is valid JSON
even where Python's values are not (NaN, lone surrogates, bytes).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

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
    if file_format(path) == ".parquet":
        return _read_parquet(_open_parquet(path))
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
        return int(_open_parquet(path).metadata.num_rows)
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")


def parse_line(text: bytes) -> tuple[Row | None, str, str]:
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
    return value, "", ""


def dump_line(row: Mapping[str, Any]) -> bytes:
    """One line of valid JSON, in UTF-8: NaN and infinities become null, lone surrogates are escaped, bytes become
    base64, dates and decimals text.

    Raises:
        RecursionError: the row is nested as deep as Python can read but no longer write.
    """
    try:
        text = _dumps(row, allow_nan=False)
    except ValueError:
        row = json.loads(_dumps(row), parse_constant=lambda _: None)
        text = _dumps(row)
    try:
        return text.encode("utf-8") + b"\n"
    except UnicodeEncodeError:
        return _dumps(row, ensure_ascii=True).encode("ascii") + b"\n"


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
            self.rows_kept, end = _complete_lines(self._file)
            self._file.seek(end)
            self._file.truncate()

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


def _open_parquet(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path} as Parquet: {error}.") from error


def _read_parquet(file: Any) -> Iterator[tuple[int, Row | BadRow]]:
    with file:
        line = 0
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                yield (line := line + 1), row


def _find_types(lines: Path, target: Path) -> None:
    from sailrl.data.parquet import write_parquet

    write_parquet(target, lambda: (row for _, row in good_rows(lines)))


def _complete_lines(file: IO[bytes]) -> tuple[int, int]:
    """Number of lines that end with a line break, and the byte behind the last of them."""
    lines = end = position = 0
    while block := file.read(1 << 20):
        if breaks := block.count(b"\n"):
            lines += breaks
            end = position + block.rindex(b"\n") + 1
        position += len(block)
    return lines, end


def _dumps(row: Mapping[str, Any], *, ensure_ascii: bool = False, allow_nan: bool = True) -> str:
    return json.dumps(row, ensure_ascii=ensure_ascii, allow_nan=allow_nan, default=_plain)


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)
