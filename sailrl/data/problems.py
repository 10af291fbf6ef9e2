"""Reads the problems of a source: a JSONL or Parquet file, or a generator. Everything is checked before a run starts.

A row that breaks a rule is reported with file, line, field and rule; ``on_bad_row`` says whether that stops the run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sailrl import plugins
from sailrl.config.schema import SourceConfig
from sailrl.data.contract import BrokenRow, kind_of, parse_problem, problem_from_row
from sailrl.data.rows import BadRow as UnreadableRow
from sailrl.data.rows import OnBadRow, read_rows
from sailrl.errors import ConfigError, DataError, SailError
from sailrl.types import Problem

__all__ = ["BadRow", "LoadedProblems", "list_bad_rows", "load_problems", "problem_from_row"]

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why."""

    file: str
    line: int
    """Counted from 1: the line of a JSONL file, the row of a Parquet file or of a generator."""
    field: str
    """The field that breaks a rule; empty when the row as a whole does."""
    rule: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field + ': ' if self.field else ''}{self.rule}"


@dataclass(frozen=True, slots=True)
class LoadedProblems:
    """The problems of one source, and the rows that were left out."""

    problems: list[Problem]
    bad_rows: list[BadRow]


def load_problems(source: SourceConfig, *, on_bad_row: OnBadRow, base_dir: Path | None = None) -> LoadedProblems:
    """Reads all problems of ``source``; a relative path starts at ``base_dir``, or at the folder one runs from.

    Raises:
        DataError: the file cannot be read, holds no usable row, or has bad rows and ``on_bad_row`` is ``error``.
        ConfigError: the generator cannot be loaded.
    """
    bad_rows: list[BadRow] = []
    problems = [problem for _, problem in read_problems(source, bad_rows, base_dir=base_dir)]
    check_rows(source, len(problems), bad_rows, on_bad_row)
    return LoadedProblems(problems, bad_rows)


def read_problems(
    source: SourceConfig,
    bad_rows: list[BadRow],
    *,
    base_dir: Path | None = None,
    rule: Callable[[dict[str, Any]], None] = lambda row: None,
) -> Iterator[tuple[dict[str, Any], Problem]]:
    """Yields every usable row of ``source``, its fields named as in the contract, with the problem in it.

    Rows that break a rule are put into ``bad_rows`` as they come by. Paths of images are absolute in the problem only.

    Args:
        rule: what the caller asks of a row beyond the contract; raises BrokenRow.

    Raises:
        DataError: the file cannot be read.
        ConfigError: the generator cannot be loaded.
    """
    name, folder, rows = _open(source, base_dir)
    lines_of_ids: dict[str, int] = {}
    for line, row in rows:
        if source.limit is not None and len(lines_of_ids) == source.limit:
            break
        try:
            if isinstance(row, UnreadableRow):
                raise BrokenRow("", row.detail)
            mapped = _mapped(row, source)
            problem = parse_problem(mapped, where=f"{name}:{line}", need_prompt=True, folder=folder)
            rule(mapped)
            if problem.id in lines_of_ids:
                raise BrokenRow(
                    "id", f"{problem.id!r} is already the id of row {lines_of_ids[problem.id]}; ids are unique"
                )
        except BrokenRow as broken:
            bad_rows.append(BadRow(name, line, broken.field, broken.rule))
        else:
            lines_of_ids[problem.id] = line
            yield mapped, problem


def check_rows(source: SourceConfig, good: int, bad_rows: Sequence[BadRow], on_bad_row: OnBadRow) -> None:
    """What a source that was read amounts to.

    Raises:
        DataError: it has no usable row, or has bad rows and ``on_bad_row`` is ``error``.
    """
    where = source.path or (source.generate.use if source.generate else "")
    count = good + len(bad_rows)
    if bad_rows and on_bad_row == "error":
        raise DataError(
            f"{where}: {len(bad_rows)} of {count} rows break a rule.\n{list_bad_rows(bad_rows)}\n"
            "Repair them, or leave them out with data.on_bad_row=skip."
        )
    if not good:
        details = f" All {count} rows break a rule:\n{list_bad_rows(bad_rows)}" if bad_rows else " It is empty."
        raise DataError(f"{where}: there is no problem in it.{details}")


def list_bad_rows(bad_rows: Sequence[BadRow]) -> str:
    """The first few, one per line, and how many more there are."""
    lines = [f"  {bad}" for bad in bad_rows[:_SHOWN]]
    if len(bad_rows) > _SHOWN:
        lines.append(f"  ... and {len(bad_rows) - _SHOWN} more")
    return "\n".join(lines)


def _open(source: SourceConfig, base_dir: Path | None) -> tuple[str, Path, Iterable[tuple[int, Any]]]:
    """The source's name in reports and ids, the folder its images are relative to, and its rows."""
    if source.path is not None:
        path = (base_dir or Path()) / Path(source.path).expanduser()
        return path.name, path.parent, read_rows(path)
    if source.generate is None:
        raise ConfigError("a data source needs a path or generate. Write for example `path: data/problems.jsonl`.")
    return source.generate.use, base_dir or Path(), _generated(source.generate.use, source.generate.args)


def _generated(use: str, args: dict[str, Any]) -> Iterator[tuple[int, Any]]:
    generate = plugins.load(use)
    try:
        yield from enumerate(generate(**args), start=1)
    except SailError:
        raise
    except Exception as error:
        raise DataError(f"the generator {use!r} failed: {type(error).__name__}: {error}") from error


def _mapped(row: Any, source: SourceConfig) -> dict[str, Any]:
    """Renames the configured fields to the contract's and cuts the answer out of a worked solution."""
    if not isinstance(row, Mapping):
        raise BrokenRow("", f"a row is an object with named fields, this is {kind_of(row)}")
    mapped = dict(row)
    for name, given in (("prompt", source.prompt_field), ("answer", source.answer_field)):
        if given == name:
            continue
        if given not in row:
            fields = ", ".join(map(str, row)) or "nothing"
            raise BrokenRow(given, f"is missing (data.*.{name}_field names it); the row has {fields}")
        mapped[name] = row[given]
    if source.answer_regex is not None:
        answer = mapped.get("answer")
        if not isinstance(answer, str):
            raise BrokenRow(source.answer_field, f"answer_regex needs text to search, this is {kind_of(answer)}")
        found = re.findall(source.answer_regex, answer)
        if not found:
            raise BrokenRow(source.answer_field, f"answer_regex {source.answer_regex!r} matches nothing in it")
        last = found[-1]
        mapped["answer"] = (last if isinstance(last, str) else last[0]).strip()
    return mapped
