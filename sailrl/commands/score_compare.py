"""``sailrl score --compare``: the other verdict on each row. A column or file is read before any row is scored, so that
a misspelt column or the wrong file fails at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sailrl.commands.score_print import say
from sailrl.config.sources import row_format
from sailrl.data.rows import BadRow, Row, read_rows
from sailrl.errors import DataError
from sailrl.scoring.compare import by_id, verdict

COLUMN = "column:"


def words_beforehand(other: str, source: Path, part: str) -> list[bool | None] | None:
    """The other verdict, right or wrong, on each row of ``source``: from its column ``column:NAME`` or a scored file.
    None when ``other`` names a reward, which must score first.

    Raises:
        DataError: there is no such file or column, it has no label, or its rows are not those of ``source``.
    """
    if other.startswith(COLUMN):
        return _column(other.removeprefix(COLUMN), source)
    if row_format(Path(other)) is not None:
        return _file(Path(other), source, part)
    return None


def _column(name: str, source: Path) -> list[bool | None]:
    words: list[bool | None] = []
    names: dict[str, None] = {}
    seen: Any = None
    for row in _rows(source):
        value = row.get(name)
        seen = value if seen is None else seen
        names |= dict.fromkeys(row)
        words.append(verdict(value))
    if any(word is not None for word in words):
        return words
    if name in names:
        raise DataError(
            f"--compare: no row of {source} has a label in the column {name!r}: right or wrong, true or false, 1 or 0. "
            f"The first value there is {str(seen)[:60]!r}."
        )
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {COLUMN}{near[0]}?" if near else f"Its columns: {', '.join(list(names)[:20]) or 'none'}."
    raise DataError(f"--compare: no row of {source} has a column {name!r}. {hint}")


def _file(other: Path, source: Path, part: str) -> list[bool | None]:
    theirs = [(_id(row), _word(row, part), _has_part(row, part)) for row in _rows(other)]
    ours = [_id(row) for row in _rows(source)]
    words = [word for _, word, _ in theirs]
    if all(word is None for word in words):
        raise DataError(f"--compare: no row of {other} has a score of {part} or a reward.")
    if not any(named for *_, named in theirs):
        say(f"--compare: {other} has no scores of {part}; its reward is compared, which is right from 1 on")
    if None in ours or any(name is None for name, *_ in theirs):
        if len(ours) != len(theirs):
            raise DataError(
                f"--compare: {other} has {len(theirs):,} rows and {source} has {len(ours):,}. Where not every row of "
                "both has an id, they are paired by their order and must be the same rows. Give both ids."
            )
        say("--compare: rows are paired by their order, since not every row of both files has an id")
        return words
    paired, alone, left = by_id([str(name) for name in ours], [(str(name), word) for name, word, _ in theirs])
    if alone == len(ours):
        raise DataError(f"--compare: {other} and {source} have no id in common, for example {ours[0]!r}.")
    if alone or left:
        say(f"--compare: paired by id; {alone:,} rows of {source} and {left:,} rows of {other} have no partner")
    return paired


def _rows(path: Path) -> Iterator[Row]:
    """The rows of a file; a line that is no row becomes an empty one, so that the order stays."""
    for _, row in read_rows(path):
        yield {} if isinstance(row, BadRow) else row


def _id(row: Row) -> str | None:
    return None if row.get("id") is None else str(row["id"])


def _has_part(row: Row, part: str) -> bool:
    scores = row.get("scores")
    return isinstance(scores, dict) and isinstance(scores.get(part), dict)


def _word(row: Row, part: str) -> bool | None:
    return verdict(row["scores"][part].get("value") if _has_part(row, part) else row.get("reward"))
