"""Reads the problems of a source: files, datasets or a generator. Everything is checked before a run starts.

A row that breaks a rule is reported with file, line, field and rule; ``on_bad_row`` says whether that stops the run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sailrl.config.schema import SourceConfig
from sailrl.data.contract import parse_problem, problem_from_row
from sailrl.data.fields import BrokenRow, kind_of
from sailrl.data.forms import split_response, understood
from sailrl.data.images import ImageStore
from sailrl.data.pictures import as_list
from sailrl.data.rows import BadRow, OnBadRow, Row
from sailrl.data.sources import open_source
from sailrl.data.unread import Columns
from sailrl.errors import DataError
from sailrl.types import Frame, Problem

__all__ = ["BadProblem", "LoadedProblems", "ProblemReader", "list_bad_rows", "load_problems", "problem_from_row"]

_SHOWN = 10
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\S*/\S*|\d+")
"""What differs between rows with one fault."""


@dataclass(frozen=True, slots=True)
class BadProblem:
    """A row that cannot be used, and why."""

    file: str
    line: int
    """Counted from 1: the line of a JSONL file or table, else the row's number."""
    field: str
    """The field that breaks a rule; empty when the row as a whole does."""
    rule: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field + ': ' if self.field else ''}{self.rule}"


@dataclass(frozen=True, slots=True)
class LoadedProblems:
    """The problems of one source, and the rows that were left out."""

    problems: list[Problem]
    bad_rows: list[BadProblem]
    notes: list[str]
    """What is there and unused, in one line each, with the name of the source."""


class ProblemReader:
    """The usable problems of one source, in a stream; afterwards, what became of its rows and columns.

    Iterate over it, as often as needed, then ask ``check`` and ``notes``, which speak of the last pass. Each problem
    comes with its row: its fields are named as in the contract, and paths of images and frames are absolute.

    Args:
        section: where the source stands in the configuration (``data.train``), for what a message tells to write;
            None for a file whose columns cannot be mapped.
        base_dir: what a relative path starts from; None for the folder one runs from.
        also_read: columns that the job reads besides the contract's.
        needs_answer: whether a row without an answer may have it in another column.
        store: takes images that come as bytes, and the problem has their paths there: memory holds none of them. None
            leaves them as they are.
        rule: what the caller asks of a row beyond the contract; raises BrokenRow.
        convert: makes a row of another form one of the contract before anything is read from it, or None where the row
            does not count; raises BrokenRow.
    """

    def __init__(
        self,
        source: SourceConfig,
        section: str | None,
        *,
        base_dir: Path | None = None,
        also_read: Iterable[str] = (),
        needs_answer: bool = True,
        store: ImageStore | None = None,
        rule: Callable[[Row], None] = lambda row: None,
        convert: Callable[[Row], Row | None] | None = None,
    ) -> None:
        self.source, self.section = source, section
        self._base_dir, self._store, self._rule, self._convert = base_dir, store, rule, convert
        self._about = (frozenset(also_read), needs_answer)
        self._renamed = [(name, given) for name, given in source.fields() if given != (name,)]
        self._free = {name for name, given in source.fields() if given == (name,)}
        self.bad_rows: list[BadProblem] = []
        """Rows of the last pass that break a rule."""
        self.columns = self._no_columns()

    @property
    def name(self) -> str:
        """The source as the configuration names it."""
        return self.source.path or (self.source.generate.use if self.source.generate else "")

    def __iter__(self) -> Iterator[tuple[Row, Problem]]:
        """Yields row and problem of every usable row.

        Raises:
            DataError: the file cannot be read.
            ConfigError: the generator cannot be loaded.
        """
        self.bad_rows, self.columns = [], self._no_columns()
        lines_of_ids: dict[str, int] = {}
        for at in open_source(self.source, self._base_dir, self.section):
            name, line, row = at.file, at.line, at.row
            if self.source.limit is not None and len(lines_of_ids) == self.source.limit:
                break
            try:
                if isinstance(row, BadRow):
                    raise BrokenRow("", row.detail)
                if self._convert is not None and (row := self._convert(row)) is None:
                    continue
                mapped, taken = self._mapped(row)
                problem = self._kept(parse_problem(mapped, where=f"{name}:{line}", need_prompt=True, folder=at.folder))
                mapped |= _whole(problem)
                self._rule(mapped)
                if problem.id in lines_of_ids:
                    raise BrokenRow(
                        "id", f"{problem.id!r} is already the id of row {lines_of_ids[problem.id]}; ids are unique"
                    )
            except BrokenRow as broken:
                hint = self.columns.hint(broken.field, row) if isinstance(row, Mapping) else ""
                self.bad_rows.append(BadProblem(name, line, broken.field, broken.rule + hint))
            except RecursionError:
                self.bad_rows.append(BadProblem(name, line, "", "it is nested too deeply"))
            else:
                lines_of_ids[problem.id] = line
                self.columns.add(row, problem, taken)
                yield mapped, problem

    def check(self, on_bad_row: OnBadRow) -> None:
        """What the last pass amounts to.

        Raises:
            DataError: there is no usable row, there are bad rows and ``on_bad_row`` is ``error``, or a column that
                nothing reads has pictures, or answers that the rows lack.
        """
        good, bad = self.columns.rows, self.bad_rows
        if bad and on_bad_row == "error":
            raise DataError(
                f"{self.name}: {len(bad)} of {good + len(bad)} rows break a rule.\n{list_bad_rows(bad)}\n"
                "Repair them, or leave them out with data.on_bad_row=skip."
            )
        if not good:
            details = f" All {len(bad)} rows break a rule:\n{list_bad_rows(bad)}" if bad else " It is empty."
            raise DataError(f"{self.name}: there is no problem in it.{details}")
        self.check_columns()

    def check_columns(self) -> None:
        """Only the part of ``check`` about columns.

        Raises:
            DataError: a column that was asked for is in no row.
        """
        if (fault := self.columns.fault()) is not None:
            raise DataError(f"{self.name}: {fault}")

    def notes(self, *, write_choices: bool | None = None) -> list[str]:
        """What is there and unused in the last pass, in one line each.

        Args:
            write_choices: whether choices that a prompt lacks are added to it; None where the job has no such setting.
        """
        return [f"{self.section or self.name}: {note}" for note in self.columns.notes(write_choices=write_choices)]

    def _no_columns(self) -> Columns:
        also_read, needs_answer = self._about
        return Columns(self.source, self.section, also_read, needs_answer)

    def _mapped(self, row: Any) -> tuple[Row, dict[str, str]]:
        """The row with the contract's names, the answer cut out of a worked solution; and what was found without being
        configured, see ``understood``."""
        if not isinstance(row, Mapping):
            raise BrokenRow("", f"a row is an object with named fields, this is {kind_of(row)}")
        source = self.source
        kept = {name: value for name, value in row.items() if name not in source.ignore}
        mapped, taken = understood(kept, self._free)
        for name, given in self._renamed:
            if name in ("prompt", "answer") and given[0].split(".")[0] not in mapped:
                key = f"{self.section or 'data.*'}.{name}_field"
                raise BrokenRow(given[0], f"is missing ({key} names it); the row has {', '.join(map(str, row))}")
            mapped[name] = _found(mapped, given)
            if name == "prompt":
                taken |= split_response(mapped, given[0])
            if name == "images":  # written out, the row would have the same pictures twice
                mapped = {key: value for key, value in mapped.items() if key not in given}
        if mapped.get("images") is not None:
            mapped["images"] = as_list(mapped["images"])
        if source.answer_regex is not None:
            mapped["answer"] = _cut_out(source.answer_regex, source.answer_field, mapped.get("answer"))
        return mapped, taken

    def _kept(self, problem: Problem) -> Problem:
        """The problem with images that came as bytes put into the store."""
        if self._store is None:
            return problem
        keep = self._store.keep
        try:
            frames = [tuple(Frame(keep(frame.image), frame.time_s) for frame in video) for video in problem.videos]
            return replace(problem, images=tuple(map(keep, problem.images)), videos=tuple(frames))
        except DataError as error:
            raise BrokenRow("videos" if problem.videos else "images", str(error)) from None


def load_problems(
    source: SourceConfig,
    section: str | None = None,
    *,
    on_bad_row: OnBadRow,
    base_dir: Path | None = None,
    store: ImageStore | None = None,
    write_choices: bool | None = None,
) -> LoadedProblems:
    """Reads all problems of ``source``; see ``ProblemReader`` for the arguments.

    Raises:
        DataError: the file cannot be read, or ``ProblemReader.check`` refuses what is in it.
        ConfigError: the generator cannot be loaded.
    """
    reader = ProblemReader(source, section, base_dir=base_dir, store=store)
    problems = [problem for _, problem in reader]
    reader.check(on_bad_row)
    return LoadedProblems(problems, reader.bad_rows, reader.notes(write_choices=write_choices))


def list_bad_rows(bad_rows: Sequence[BadProblem]) -> str:
    """The first row of each kind of fault with how many there are, one kind per line, and how many more kinds there
    are. Faults that differ only in a number, a path or a quotation are of one kind."""
    kinds = [_VALUES.sub("", f"{bad.field}: {bad.rule}") for bad in bad_rows]
    first = dict(zip(reversed(kinds), reversed(bad_rows), strict=True))
    counts = Counter(kinds)
    lines = [
        f"  {first[kind]}" + (f" (the first of {count:,} such rows)" if count > 1 else "")
        for kind, count in list(counts.items())[:_SHOWN]
    ]
    if len(counts) > _SHOWN:
        lines.append(f"  ... and {sum(list(counts.values())[_SHOWN:]):,} more rows with other faults")
    return "\n".join(lines)


def _found(row: Mapping[str, Any], columns: Sequence[str]) -> Any:
    """What a row has for a field of the contract: one column's value, or the values of several as a list."""
    if len(columns) == 1:
        return _find(row, columns[0])
    values = [value for column in columns if (value := _find(row, column)) is not None]
    listed = [value if isinstance(value, list | tuple) else [value] for value in values]
    return [item for items in listed for item in items] or None


def _find(row: Mapping[str, Any], name: str) -> Any:
    """The value of a column, or of a field in an object that ``name`` writes with a dot; None where there is none."""
    if name in row or "." not in name:
        return row.get(name)
    column, _, inner = name.partition(".")
    value = row.get(column)
    return _find(value, inner) if isinstance(value, Mapping) else None


def _cut_out(regex: str, field: str, answer: Any) -> str:
    if not isinstance(answer, str):
        raise BrokenRow(field, f"answer_regex needs text to search, this is {kind_of(answer)}")
    found = re.findall(regex, answer)
    if not found:
        raise BrokenRow(field, f"answer_regex {regex!r} matches nothing in it")
    last = found[-1]
    return (last if isinstance(last, str) else last[0]).strip()


def _whole(problem: Problem) -> Row:
    """Fields of the row that parsing has changed: the chat as it was read, and whole paths."""
    fields: Row = {"prompt": problem.prompt}
    if problem.images:
        fields["images"] = list(problem.images)
    if problem.videos:
        fields["videos"] = [
            [{"image": frame.image, "time_s": frame.time_s} for frame in video] for video in problem.videos
        ]
    return fields
