"""The settings of each start of a run, and what a later start may change.

``resolved.yaml`` has the settings of the latest start that trained; ``starts.jsonl`` has a line for each, with its
settings and what was typed. A start that goes on from a checkpoint says what differs from the last one, keeps what
earlier ones were given on the command line, and is refused where a difference makes it another experiment.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sailrl.config.base import Section
from sailrl.config.load import Source, folder_of, read_mapping, resolved_yaml
from sailrl.config.schema import JobConfig, ModelConfig
from sailrl.data import jsonl
from sailrl.data.jsonl import AppendOnlyFile
from sailrl.errors import CheckpointError, ConfigError
from sailrl.launch.fingerprint import DIGESTS, model_digest
from sailrl.launch.run_folder import RESOLVED, write_file
from sailrl.launch.sealed import CHECKPOINTS

STARTS = "starts.jsonl"
_NOTHING = object()
_LONGEST = 80
_HASH = re.compile(r"\b(?:[0-9a-f]{32}){1,2}\b")


@dataclass(frozen=True, slots=True)
class Typed:
    """One ``key=value`` of the command line."""

    text: str
    """All of it."""
    in_file: Sequence[Any]
    """The value that the YAML file had for the key then; empty when it had none."""

    def holds(self, file: Mapping[str, Any]) -> bool:
        """Whether the file still has that value."""
        return list(self.in_file) == value_in(file, key_of(self.text))

    def within(self, other: Typed) -> bool:
        """Whether ``other`` sets the same key, or the section that contains it."""
        return f"{key_of(self.text)}.".startswith(f"{key_of(other.text)}.")


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a job."""

    written: Section | None = None
    """The configuration to record, where it is not the one that runs: a stage of a recipe has references in place of
    paths and addresses, which change with every start."""
    typed: Sequence[Typed] = ()
    """The ``key=value`` of the command line that hold, including those of earlier starts."""
    allow_changes: bool = False
    """Continue although it becomes another experiment."""

    def recorded(self, config: Section) -> dict[str, Any]:
        """The settings that later starts are compared with."""
        return (self.written or config).model_dump(mode="json")

    def begins(self, config: Section, folder: Path, **done: int) -> None:
        """Records the settings of this start.

        Args:
            done: how far the run is, for example ``episode``.
        """
        write_file(folder / RESOLVED, resolved_yaml(config))
        typed = [[typed.text, *typed.in_file] for typed in self.typed]
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **done, "typed": typed, "settings": self.recorded(config)}
        with closing(AppendOnlyFile.going_on(folder / STARTS)) as starts:
            starts.append(line)

    def changes(self, config: Section, folder: Path) -> dict[str, str]:
        """What differs from the settings of the last start, ``old -> new`` by key; nothing where none is known.

        A setting that came with a newer sailrl counts once it is not the default.
        """
        last = _last(folder)
        if last is None:
            return {}
        own = (self.written or config).model_dump(mode="json", exclude_defaults=True)
        found = differences(last["settings"], self.recorded(config))
        return {key: change for key, change in found.items() if value_in(last["settings"], key) or value_in(own, key)}


@dataclass(slots=True)
class Continuation:
    """A run that continues from a checkpoint; without one it begins, and nothing is compared."""

    start: Start
    config: Section
    folder: Path
    checkpoint: Path | None
    saved: Mapping[str, Any]
    """The identity of the checkpoint's experiment."""
    fixed: Sequence[str]
    """Keys of the identity that can never change."""
    changes: dict[str, str] = field(default_factory=dict)
    """Differences that are allowed."""
    _begun: bool = False

    def __post_init__(self) -> None:
        if self.checkpoint is not None:
            self.changes = self.start.changes(self.config, self.folder)

    def compare(self, now: Mapping[str, Any]) -> None:
        """Compares this run's identity with the checkpoint's, for the keys of ``now``.

        Raises:
            CheckpointError: it is another experiment; the message has all differences and the fix.
        """
        if self.checkpoint is None:
            return
        found = differences({key: value for key, value in self.saved.items() if key in now}, now)
        self.changes = {**found, **self.changes}
        never = [key for key in found if any(f"{key}.".startswith(f"{part}.") for part in self.fixed)]
        if not never and (self.start.allow_changes or not found):
            return
        if never:
            fix = (
                f"A checkpoint belongs to what it began with, and {', '.join(never)} cannot change. Put that back, or "
                "begin a run of its own with another run.dir."
            )
            if (self.checkpoint / "model").is_dir():
                fix += f" There, model.path={self.checkpoint / 'model'} is the model that this one has learned."
        else:
            fix = (
                f"Put back {', '.join(found)}, begin a run of its own with another run.dir, or go on all the same "
                "with --allow-changes."
            )
        lines = "".join(f"\n  {key}: {change}" for key, change in self.changes.items())
        raise CheckpointError(f"{self.checkpoint} belongs to another experiment than the one asked for:{lines}\n{fix}")

    def say_changes(self, say: Callable[[str], None]) -> None:
        """One line for each setting that differs from the last start."""
        for key, change in self.changes.items():
            say(f"changed since the last start: {key}: {change}")

    def begins(self, **done: int) -> None:
        """See ``Start.begins``; a second call does nothing."""
        if not self._begun:
            self.start.begins(self.config, self.folder, **done)
            self._begun = True


UNTYPED = Start()
"""A start with nothing on the command line."""


def refuse_other_kind(config: JobConfig, folder: Path) -> None:
    """Raises ConfigError when the run folder belongs to a job of another kind, whose files would be mistaken."""
    last = _last(folder)
    if last is not None and last["settings"]["kind"] != config.kind:
        raise ConfigError(
            f"{folder} holds a job of kind {last['settings']['kind']}, and this one is of kind {config.kind}. Give it "
            "a folder of its own with run.dir=..."
        )


def in_force(source: Source, overrides: Sequence[str]) -> list[Typed]:
    """The ``key=value`` of earlier starts that still hold, then ``overrides``. One holds until its key is given again,
    or until the YAML file has another value for it. A run without a checkpoint begins again, and nothing is kept.

    Raises:
        ConfigError: the file is no YAML mapping, or an override is no ``section.key=value``.
    """
    file, _ = read_mapping(source)
    now = [Typed(text, value_in(file, key_of(text))) for text in overrides]
    given = value_in(read_mapping(source, overrides)[0], "run.dir")
    folder = folder_of(given[0] if given else None, source)
    last = _last(folder) if any((folder / CHECKPOINTS).glob("[!.]*")) else None
    before = [Typed(text, in_file) for text, *in_file in (last["typed"] if last else ())]
    return [typed for typed in before if typed.holds(file) and not any(map(typed.within, now))] + now


def settings_identity(
    keys: Sequence[str], settings: Mapping[str, Any], model: ModelConfig, folder: Path
) -> dict[str, Any]:
    """The part of a run's identity that is known before anything is prepared: the settings ``keys``, and the content of
    the model that it begins with."""
    found = {key: value for key in keys for value in value_in(settings, key)}
    return found if model.path is None else found | {"model.content": model_identity(model, model.path, folder)}


def model_identity(model: ModelConfig, weights: str, folder: Path) -> str:
    """The content of a model folder, hashed once per run folder."""
    return model_digest(weights, model.trust_remote_code, memory=folder / DIGESTS)


def key_of(override: str) -> str:
    """``batch.episodes`` of ``batch.episodes=2``."""
    return override.partition("=")[0].strip()


def value_in(data: Mapping[str, Any], key: str) -> list[Any]:
    """The value of a dotted key as a list of one, or an empty list."""
    value: Any = data
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return []
        value = value[name]
    return [value]


def differences(before: Any, now: Any) -> dict[str, str]:
    """``old -> new`` by dotted key, of every value that is not the same in two nested mappings."""
    return {".".join(keys): f"{_shown(old)} -> {_shown(new)}" for keys, old, new in _different(before, now, ())}


def _different(before: Any, now: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _different(before.get(key, _NOTHING), now.get(key, _NOTHING), (*keys, key))
    elif before != now:
        yield keys, before, now


def _shown(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = _HASH.sub(lambda found: found[0][:12], text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _last(folder: Path) -> dict[str, Any] | None:
    """The line of the last start, or None."""
    path = folder / STARTS
    lines = [line for _, line in jsonl.read(path)] if path.is_file() else []
    return lines[-1] if lines else None
