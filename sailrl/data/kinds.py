"""Recognises files that are not what their name says, by their first bytes, so that one sentence can name the cause."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import IO, cast

from sailrl.errors import DataError

HEAD_BYTES = 1 << 16
_SHOWN = 60
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Fetch the file with `git lfs pull`"),
    (b"\x1f\x8b", "compressed with gzip", "Give it a name that ends in .gz, such as FILE.jsonl.gz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it: zstd -dc FILE > NEW.jsonl"),
    (b"\xfd7zXZ", "compressed with xz", "Unpack it: xz -dc FILE > NEW.jsonl"),
    (b"BZh", "compressed with bzip2", "Unpack it: bzip2 -dc FILE > NEW.jsonl"),
    (b"PK\x03\x04", "a zip archive", "Unpack it with unzip"),
    (b"SQLite format 3", "an SQLite database", "Write its table as JSON lines"),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it with 7z"),
    (b"ARROW1", "an Arrow file", "Write it as Parquet: datasets.Dataset.from_file(FILE).to_parquet(NEW)"),
)
_UTF16 = re.compile(rb"\xff\xfe|\xfe\xff|\{\x00|\x00\{")
_WEB_PAGE = re.compile(rb"\s*<(!doctype\s+)?html", re.IGNORECASE)
_ROWS_IN_A_LIST = re.compile(rb"\s*\[\s*\{")
_OBJECT_OVER_LINES = re.compile(rb'\s*\{[ \t]*\r?\n\s*["}]')


def open_unpacked(path: Path) -> IO[bytes]:
    """The content of a file, unpacked where its name ends in ``.gz``.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return cast(IO[bytes], gzip.open(path, mode="rb")) if is_packed(path) else path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error


def is_packed(path: Path) -> bool:
    """Whether a file's name says that it is compressed with gzip."""
    return path.suffix.lower() == ".gz"


def refuse_other_kinds(path: Path, named: str) -> None:
    """Checks that the content of ``path`` may be of the kind ``named``, see ``rows.file_format``.

    Raises:
        DataError: it is of another kind that can be recognised, or the file cannot be read.
    """
    try:
        with open_unpacked(path) as file:
            head = file.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error
    found = _other_kind(head.removeprefix(b"\xef\xbb\xbf"), named)
    if found is not None:
        what, fix = found
        raise DataError(f"{path} is {what}. {fix}.")


def _other_kind(head: bytes, named: str) -> tuple[str, str] | None:
    """What the first bytes say the file is, and what to do; None when they do not contradict its name."""
    for start, what, fix in _STARTS:
        if head.startswith(start):
            return what, fix
    if _WEB_PAGE.match(head):
        return "a web page, which a failed download leaves", "Download the file again"
    if named == ".parquet":
        is_text = head.lstrip().startswith(b"{")
        return ("a text of JSON lines by its content", "Give it a name that ends in .jsonl") if is_text else None
    if head.startswith(b"PAR1"):
        return "a Parquet file by its content", "Give it a name that ends in .parquet"
    if _UTF16.match(head):
        return "not UTF-8 but UTF-16", "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW.jsonl"
    if named in (".csv", ".tsv"):
        names = head.partition(b"\n")[0]
        has, lacks, other = (b"\t", b",", ".tsv") if named == ".csv" else (b",", b"\t", ".csv")
        if has in names and lacks not in names:
            return f"a table as {other} files are, by its first line", f"Give it a name that ends in {other}"
        return None
    if named == ".json" and head.lstrip().startswith(b"["):
        return None
    if _ROWS_IN_A_LIST.match(head) and not _first_of_several_lines(head):
        return "one JSON list, not JSON lines", "Give it a name that ends in .json"
    if _OBJECT_OVER_LINES.match(head):
        return "JSON over several lines, not JSON lines", "Write one object per line: jq -c . FILE > NEW.jsonl"
    lines = [line.strip() for line in head.split(b"\n") if line.strip()]
    if len(lines) > 1 and not any(line.startswith(b"{") for line in lines):
        first = lines[0][:_SHOWN].decode("utf-8", "backslashreplace")
        return f"not JSON lines: none of its lines is an object, the first is {first!r}", "Write one object per line"
    return None


def _first_of_several_lines(head: bytes) -> bool:
    """Whether the first line is JSON by itself and others follow: then it is a bad row among rows."""
    first, _, rest = head.lstrip().partition(b"\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return bool(rest.strip())
