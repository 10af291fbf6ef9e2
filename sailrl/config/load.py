"""From a YAML file and ``key=value`` arguments to one frozen, typed configuration, or to one readable error."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import ValidationError

from sailrl.config.base import Section
from sailrl.config.kinds import KINDS, kind_class
from sailrl.config.messages import explain, show
from sailrl.config.recipe import RecipeConfig
from sailrl.config.references import references
from sailrl.config.schema import JobConfig
from sailrl.config.yaml_text import Dumper, Keys, Where, dotted, parse
from sailrl.errors import ConfigError

Source: TypeAlias = str | Path | Mapping[str, Any] | JobConfig
"""A YAML file, a mapping with the keys of one, or a configuration."""


@dataclass(frozen=True)
class Loaded:
    """A configuration and where each of its values was written."""

    config: JobConfig
    where: Where


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> JobConfig:
    """Reads the YAML file ``path`` with ``overrides`` (``section.key=value``) on top.

    Raises:
        ConfigError: everything that is wrong, one paragraph each.
    """
    return load(path, overrides).config


def load(source: Source, overrides: Sequence[str] = ()) -> Loaded:
    """Reads ``source``, puts ``overrides`` (``section.key=value``) on top and checks every value against the schema.

    Raises:
        ConfigError: everything that is wrong, one paragraph each.
    """
    data, places = read_mapping(source, overrides)
    where = Where(name_of(source), places)
    model = _kind(data, where)
    problems = list(_secrets(data, where, ()))
    if model is not RecipeConfig:
        problems += [_no_reference(keys, f"${{{name}.{output}}}", where) for keys, name, output in references(data)]
    try:
        config = model.model_validate(data)
    except ValidationError as error:
        problems = explain(error, model, where) + problems
    if problems:
        raise ConfigError(join(problems))
    return Loaded(config, where)


def name_of(source: Source) -> str:
    """How messages name it."""
    return str(source) if isinstance(source, str | Path) else "config"


def read_mapping(source: Source, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[Keys, str]]:
    """Returns what ``source`` holds with ``overrides`` on top, and the place of every value. Not checked against a
    schema, and without defaults.

    Raises:
        ConfigError: the file cannot be read, is no YAML mapping, or an override is no ``section.key=value``.
    """
    file = name_of(source)
    data, places = parse(_read(Path(source)), file) if isinstance(source, str | Path) else (_plain(source), {})
    if data is None:
        raise ConfigError(f"{file}: the file is empty. A configuration starts with {_kinds_fix()}")
    if not isinstance(data, dict):
        raise ConfigError(
            f"{file}: the file holds {show(data)}, but a configuration is a mapping of `key: value` lines."
        )
    for override in overrides:
        _apply(override, data, places)
    return data, places


def resolved_yaml(config: Section) -> str:
    """The whole configuration with every default written out; loads back equal. Secrets never get into one."""
    data = config.model_dump(mode="json")
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)


def run_dir(config: JobConfig, source: Source) -> Path:
    """The run folder: ``run.dir``, or ``runs/<config name>``."""
    return folder_of(config.run.dir, source)


def folder_of(given: Any, source: Source) -> Path:
    """The run folder for a value of ``run.dir``. Raises ConfigError when neither that nor a file names one."""
    if isinstance(given, str) and given:
        return Path(given).expanduser()
    if isinstance(source, str | Path):
        return Path("runs") / Path(source).stem
    raise ConfigError(
        "config: run.dir is missing, and without a file there is no name for the run folder. Write for "
        'example {"run": {"dir": "runs/mine"}}.'
    )


def join(problems: Sequence[str]) -> str:
    """Several paragraphs as one message."""
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} things are wrong.\n\n" + "\n\n".join(problems)


def _plain(source: Mapping[str, Any] | JobConfig) -> dict[str, Any]:
    """A copy as YAML has it; of a configuration without the defaults."""
    if isinstance(source, JobConfig):
        return source.model_dump(mode="json", exclude_unset=True)
    return {key: _plain(value) if isinstance(value, Mapping) else deepcopy(value) for key, value in source.items()}


def _read(path: Path) -> str:
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, but a configuration is a YAML file. Name a file in it.")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        here = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, here, n=1, cutoff=0.6)
        hint = f"Did you mean {path.parent / near[0]}?" if near else "Paths are relative to the folder you run from."
        raise ConfigError(f"there is no file {path}. {hint}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None


def _kinds_fix() -> str:
    return f"the job it describes: `kind: {next(iter(KINDS))}`. There are: {', '.join(KINDS)}."


def _kind(data: dict[str, Any], where: Where) -> type[JobConfig]:
    if "kind" not in data:
        raise ConfigError(f"{where.file}: the key `kind` is missing. Write {_kinds_fix()}")
    try:
        return kind_class(data["kind"])
    except ConfigError as error:
        raise ConfigError(f"{where.of(('kind',))}: {error}") from None


def _apply(override: str, data: dict[str, Any], places: dict[Keys, str]) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"command line: {override!r} is not of the form section.key=value. Write for example batch.group_size=8."
        )
    place = f"command line, {path.strip()}=..."  # without the value, which may be a secret
    # An empty value is the empty text (data.instruction=); null is written out.
    value, inner = parse(text, place) if text.strip() else ("", {})
    section = data
    for depth, key in enumerate(keys[:-1], start=1):
        if section.get(key) is None:
            section[key] = {}
            places[tuple(keys[:depth])] = place
        if not isinstance(section[key], dict):
            raise ConfigError(
                f"{place}: {'.'.join(keys[:depth])} is {show(section[key])}, which has no keys in it. "
                f"Set it as a whole: {'.'.join(keys[:depth])}=..."
            )
        section = section[key]
    section[keys[-1]] = value
    for old in [old for old in places if old[: len(keys)] == tuple(keys)]:
        del places[old]
    places[tuple(keys)] = place
    places |= {(*keys, *rest): place for rest in inner}


def _no_reference(keys: Keys, text: str, where: Where) -> str:
    return (
        f"{where.of(keys)}: {dotted(keys)} refers to {text}, but only the stages of a `kind: recipe` refer to one "
        "another. Write the path itself."
    )


_SECRET_KEY = re.compile(
    r"(?:.*[_-])?(?:api_?key|password|passwd|secret|credentials?|(?:access|auth|hf|api|bearer)_token)", re.I
)
_SECRET_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")


def _secrets(value: Any, where: Where, keys: Keys) -> Iterator[str]:
    """Complains of secrets: the configuration is copied into every run folder."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _secrets(inner, where, (*keys, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _secrets(inner, where, (*keys, i))
    elif isinstance(value, str) and value:
        named = isinstance(keys[-1], str) and _SECRET_KEY.fullmatch(keys[-1])
        if named or _SECRET_URL.search(value):
            yield (
                f"{where.of(keys)}: {dotted(keys)} holds a secret. Configurations are copied into run folders, so they "
                "hold none. Put it into an environment variable and give that variable's name instead."
            )
