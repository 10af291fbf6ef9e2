"""Columns that are there and that nothing reads. Pictures among them, and answers where a row has none, are an error
that names the line to write: training would be blind. All others are listed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sailrl.config.schema import SourceConfig
from sailrl.data.columns import (
    answer_column,
    looks_like_choices,
    picture_columns,
    plain_name,
    prompt_column,
)
from sailrl.data.messages import choices_are_unseen
from sailrl.types import Problem

CONTRACT = (
    "prompt", "answer", "id", "response_prefix", "images", "videos", "choices", "precision", "task", "meta",
)  # fmt: skip
"""The fields of a problem row."""
_OTHER_MEANINGS = ("id", "task", "meta", "choices", "precision", "response_prefix")
"""Fields whose names data sets also use for other things."""
_SHOWN = 12


@dataclass
class Columns:
    """What became of the columns of a source, row by row."""

    source: SourceConfig
    section: str | None
    """Where the source stands in the configuration, e.g. ``data.train``; None where its columns cannot be mapped."""
    also_read: frozenset[str] = frozenset()
    """Columns that the job reads besides the contract's."""
    needs_answer: bool = True
    rows: int = 0
    missing: set[str] = field(default_factory=set)
    """Columns that the configuration names and no row has."""
    unread: Counter[str] = field(default_factory=Counter)
    taken: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Fields of the contract with the columns that they were read from without being configured."""
    pictures: Counter[str] = field(default_factory=Counter)
    """Unread ones."""
    answers: Counter[str] = field(default_factory=Counter)
    """Unread ones, in rows without an answer."""
    with_pictures: int = 0
    """Problems with images or videos."""
    unseen_choices: int = 0
    """Problems whose choices are not in their prompt."""
    choices: Counter[str] = field(default_factory=Counter)
    """Unread ones, in rows without choices."""

    def __post_init__(self) -> None:
        mapped = {name for _, names in self.source.fields() for name in names}
        self.missing = mapped | set(self.source.ignore)
        self._held: set[str] = set()
        self._read = {name for name in CONTRACT if name not in ("prompt", "answer", "images", "choices")}
        self._read |= mapped | {name.split(".")[0] for name in mapped} | self.also_read

    def add(self, row: Mapping[str, Any], problem: Problem, taken: Mapping[str, str]) -> None:
        """Takes note of the columns of a row, of the problem that was read from it, and of the columns that were
        ``taken`` without being configured."""
        self.rows += 1
        self.taken.update(taken.items())
        self.missing -= taken.keys()
        if self.missing:
            self.missing = {name for name in self.missing if row.get(name, row.get(name.split(".")[0])) is None}
        seeing = bool(problem.images or problem.videos)
        self.with_pictures += seeing
        self.unseen_choices += choices_are_unseen(problem)
        unread = [name for name in self._unread(row) if not _is_taken(name, taken)]
        if not unread:
            return
        self.unread.update(unread)
        found = picture_columns(row, unread, any_name=not seeing)
        self.pictures.update(found.keys())
        self._held |= {name for name, held in found.items() if held}
        answered = problem.answer is not None or row.get("response") is not None or "response" in taken
        if self.needs_answer and not answered and (name := answer_column(row, unread)):
            self.answers[name] += 1
        if not problem.choices:
            self.choices.update(name for name in unread if looks_like_choices(name))

    def hint(self, field: str, row: Mapping[str, Any]) -> str:
        """How a row that breaks a rule on ``field`` could have it read from another column; empty without a guess."""
        unread = self._unread(row)
        if field == "images" and (pictures := picture_columns(row, unread, any_name=False)):
            return f". {self._write('images_field', list(pictures))}"
        if field == "prompt" and row.get("prompt") is None and (column := prompt_column(unread)):
            return f". {self._write('prompt_field', [column])}"
        if field in _OTHER_MEANINGS and self.section is not None and row.get(field) is not None:
            return f". If the column means something else: {self._ignore([field])}"
        return ""

    def _unread(self, row: Mapping[str, Any]) -> list[str]:
        return [
            name
            for name, value in row.items()
            if value is not None and name not in self._read and name not in self.source.ignore
        ]

    def read(self) -> str:
        """Which fields are read from columns of other names, in one line; empty where none is."""
        named = [
            (name, " and ".join(f"`{column}`" for column in given), self.rows)
            for name, given in self.source.fields()
            if given != (name,)
        ]
        named += [(name, f"`{column}`", count) for (name, column), count in self.taken.items()]
        rows = {count: "" if count == self.rows else f" in {count:,} of {self.rows:,} rows" for *_, count in named}
        return ", ".join(f"`{name}` is {columns}{rows[count]}" for name, columns, count in named)

    def fault(self) -> str | None:
        """Why nothing may be done with this source as it stands; None when every column that matters is read."""
        for key, names in self.source.fields():
            missing = [name for name in names if name in self.missing]
            if missing and names != (key,) and self.rows:
                return f"no row has {_listed(missing)}, which {self._key(key + '_field')} names."
        if self.pictures:
            count, found = max(self.pictures.values()), list(self.pictures)
            if all("video" in plain_name(name) for name in found):
                what, read = "videos", "Write the frames of each into `videos`, since files of videos are not read"
            else:
                # A text beside pictures most likely says where the same ones came from.
                held = [name for name in found if name in self._held] or found
                what, read = "pictures", self._write("images_field", held)
                if len(held) < len(found):
                    read += f" and {self._ignore(name for name in found if name not in held)}"
            return (
                f"{count:,} of {self.rows:,} rows have {what} in {_listed(found)}, which nothing reads: the model "
                f"would not see them. {read}, {self._or_ignore(found)}."
            )
        if self.answers:
            name, count = self.answers.most_common(1)[0]
            return (
                f"{count:,} of {self.rows:,} rows have no `answer`, and `{name}`, which looks like one, is not read. "
                f"{self._write('answer_field', [name])}, {self._or_ignore([name])}."
            )
        return None

    def notes(self, *, write_choices: bool | None) -> list[str]:
        """What is there and unused, in one line each."""
        lines = []
        if self.unseen_choices and not write_choices:
            lines.append(
                f"{self.unseen_choices:,} of {self.rows:,} problems have choices that are not in their prompt: the "
                "model does not see them."
                + ("" if write_choices is None else " Write data.write_choices: true to have them added to the prompt.")
            )
        choices = sorted(self.choices)
        if len(choices) == 1 and len(choices[0]) == 1:
            choices = []  # a column `a` alone is no list of options
        if choices:
            lines.append(
                f"nothing reads {_listed(choices)}, which may hold choices. {self._write('choices_field', choices)}."
            )
        others = [name for name in self.unread if name not in choices]
        if others:
            lines.append(f"nothing reads the column{'s' if len(others) > 1 else ''} {_listed(sorted(others))}.")
        if unknown := [name for name in self.source.ignore if name in self.missing]:
            lines.append(f"{self._key('ignore')} names {_listed(unknown)}, which no row has.")
        return lines

    def _key(self, name: str) -> str:
        return f"{self.section}.{name}" if self.section else name

    def _write(self, key: str, names: list[str]) -> str:
        if self.section is None:
            return f"Rename it to `{key.removesuffix('_field')}`"
        return f"Write {self._key(key)}: {names[0] if len(names) == 1 else '[' + ', '.join(names) + ']'}"

    def _or_ignore(self, names: Iterable[str]) -> str:
        return "or drop the column" if self.section is None else f"or leave them out: {self._ignore(names)}"

    def _ignore(self, names: Iterable[str]) -> str:
        columns = dict.fromkeys((*self.source.ignore, *(name.split(".")[0] for name in names)))
        return f"{self._key('ignore')}: [{', '.join(columns)}]"


def _is_taken(name: str, taken: Mapping[str, str]) -> bool:
    return any(name in (column, *column.split(" ")) for column in taken.values())


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(f"`{name}`" for name in shown[:_SHOWN]) + more
