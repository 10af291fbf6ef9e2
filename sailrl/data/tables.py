"""Rows of files that are not lines of JSON: CSV and TSV, and one JSON list. Both are read piece by piece."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sailrl.errors import DataError

PIECE = 1 << 20
"""Characters of a JSON list that are read at a time."""
MAX_CELL = 1 << 28
"""Most characters of one cell of a table; a quote that is never closed makes a cell of the rest of the file."""


def table_rows(path: Path, file: IO[bytes], delimiter: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yields ``(line, row)``, or ``(line, fault)``, for each row of a table whose first row names the columns.

    Every value is text, as it is written: ``007`` stays so, and ``NA`` is no gap. An empty cell is left out.

    Raises:
        DataError: the header is missing, or names a column twice.
    """
    csv.field_size_limit(MAX_CELL)
    # Bytes that are not UTF-8 become lone surrogates here, so that they cost their own row and not the file.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter)
    header = next(reader, None)
    if not header:
        raise DataError(f"{path} has no first row with the names of its columns.")
    header = [name.strip() or f"column {number}" for number, name in enumerate(header, start=1)]
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path} has {count} columns named {name!r}, but a row has one value per name. Rename them.")
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: no row of a table ({error}).") from error
        if cells is None:
            return
        if len(cells) == len(header):
            row = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
            if row:
                broken = next((name for name, cell in row.items() if _has_foreign_bytes(cell)), None)
                yield line, row if broken is None else f"the column {broken!r} is not UTF-8"
        elif cells:
            yield line, f"has {len(cells)} cells, and the first row names {len(header)} columns"


def _has_foreign_bytes(cell: str) -> bool:
    if cell.isascii():
        return False
    try:
        cell.encode()
    except UnicodeEncodeError:
        return True
    return False


def is_json_list(file: IO[bytes]) -> bool:
    """Whether a file begins as one JSON list does, not as lines of JSON. It is rewound."""
    head = file.read(PIECE).removeprefix(codecs.BOM_UTF8).lstrip()
    file.seek(0)
    return head.startswith(b"[")


def json_list_rows(path: Path, file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """Yields ``(number, value)`` for each entry of one JSON list; memory holds a few of them.

    Raises:
        DataError: the text is no JSON list. What follows is lost then, since nothing says where the next entry begins.
    """
    decoder, buffer, number, at_end = json.JSONDecoder(), "", 0, False
    text = io.TextIOWrapper(file, encoding="utf-8-sig")

    def more() -> bool:
        nonlocal buffer, at_end
        try:
            piece = text.read(max(PIECE, len(buffer)))  # a large entry is tried again few times
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 behind entry {number} ({error.reason}).") from error
        buffer, at_end = buffer + piece, not piece
        return not at_end

    def next_mark() -> str:
        nonlocal buffer
        buffer = buffer.lstrip()
        while not buffer and more():
            buffer = buffer.lstrip()
        mark, buffer = buffer[:1], buffer[1:]
        return mark

    mark = next_mark()
    while mark in ("[", ","):
        first = mark == "["
        mark = next_mark()
        if first and mark == "]":
            break
        buffer = mark + buffer
        while True:
            try:
                value, end = decoder.raw_decode(buffer)
            except json.JSONDecodeError as error:
                if more():
                    continue
                raise DataError(f"{path}, entry {number + 1}: not JSON ({error.msg}).") from error
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, entry {number + 1}: not usable JSON ({type(error).__name__}).") from error
            if end < len(buffer) or not more():  # a number at the end of a piece may go on in the next
                break
        buffer, number = buffer[end:], number + 1
        yield number, value
        mark = next_mark()
        if mark == "[":
            break
    if mark != "]" or next_mark():
        what = "the list is not closed" if not mark else f"{mark!r} where `,` or `]` belongs"
        raise DataError(f"{path}: no JSON list behind entry {number}: {what if mark != ']' else 'more text follows'}.")
