"""YAML to plain data, with the line of every key, and without YAML 1.1's surprises.

``1e-6`` is a number, ``on``, ``off``, ``yes``, ``no``, ``1:30`` and ``2024-01-01`` are text, ``010`` is ten, a key that
is written twice is an error: the core schema of YAML 1.2, which is what people expect when they write a config.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from sailrl.errors import ConfigError

Keys: TypeAlias = tuple[str | int, ...]
"""The path of a value: keys of mappings and positions in lists, from the top of the file."""

_TAG = "tag:yaml.org,2002:"
_SCALARS: list[tuple[str, re.Pattern[str], str]] = [
    (_TAG + "null", re.compile(r"(?:~|null|Null|NULL|)\Z"), "~nN"),
    (_TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), "tTfF"),
    (_TAG + "int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), "-+0123456789"),
    (
        _TAG + "float",
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        "-+.0123456789",
    ),
]


@dataclass(frozen=True)
class Where:
    """The place where each value was written: a line of the file, or the command line."""

    file: str = "the configuration"
    places: Mapping[Keys, str] = field(default_factory=dict)

    def of(self, keys: Keys) -> str:
        """The place of a value, or of the nearest section around it that was written down."""
        written = self._written(keys)
        return self.file if written is None else self.places[written]

    def order(self, keys: Keys) -> int:
        """Sorts values in the order of the file, the command line last."""
        written = self._written(keys)
        return -1 if written is None else list(self.places).index(written)

    def _written(self, keys: Keys) -> Keys | None:
        return next((keys[:end] for end in range(len(keys), 0, -1) if keys[:end] in self.places), None)


def dotted(keys: Keys) -> str:
    """``("rewards", "parts", "boxed")`` as people write it: ``rewards.parts.boxed``."""
    return ".".join(str(key) for key in keys)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema."""

    def construct_core_int(self, node: yaml.ScalarNode) -> int:
        """Like YAML 1.2: a leading zero is no octal number, ``0o17`` is."""
        text = self.construct_scalar(node)
        return int(text, 10 if text.lstrip("+-").isdigit() else 0)


class Dumper(yaml.SafeDumper):
    """Writes text that this module and any YAML 1.1 reader read back as the same values."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """A text as a YAML node, in double quotes where its line breaks need them."""
        # YAML folds these line breaks of Unicode into spaces unless they are escaped.
        style = '"' if any(character in text for character in "\x85\u2028\u2029") else None
        return self.represent_scalar(_TAG + "str", text, style=style)


Dumper.add_representer(str, Dumper.represent_text)
_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
for _tag, _pattern, _first in _SCALARS:
    # An empty scalar has no first character; yaml looks those up under "".
    first_characters = [*_first, ""] if _tag.endswith("null") else [*_first]
    _Loader.add_implicit_resolver(_tag, _pattern, first_characters)
    Dumper.add_implicit_resolver(_tag, _pattern, first_characters)
_Loader.add_implicit_resolver(_TAG + "merge", re.compile(r"<<\Z"), ["<"])
_Loader.add_constructor(_TAG + "int", _Loader.construct_core_int)


def parse(text: str, file: str) -> tuple[Any, dict[Keys, str]]:
    """Returns the data in ``text`` and the place of every key, as ``<file>, line <n>``.

    Raises:
        ConfigError: it is not YAML, or has tags or keys that are not text.
    """
    places: dict[Keys, str] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (None if node is None else _Builder(loader, file, places).build(node, ())), places
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = error.problem or error.context or "syntax error"
        hint = " Indent with spaces, not tabs." if "'\\t'" in problem else ""
        raise ConfigError(f"{file}{line}: this is not YAML: {problem}.{hint}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: this is not YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise ConfigError(f"{file}: the values are nested too deeply to be a configuration.") from None


class _Builder:
    """Turns nodes, which know their lines, into data."""

    def __init__(self, loader: _Loader, file: str, places: dict[Keys, str]) -> None:
        self._loader = loader
        self._file = file
        self._places = places
        self._open: set[int] = set()  # nodes being built, to notice an anchor inside itself

    def build(self, node: yaml.Node, keys: Keys) -> Any:
        if id(node) in self._open:
            raise ConfigError(f"{self._line(node)}: the anchor refers to itself. Write the values out.")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, keys)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                return [self.build(item, (*keys, i)) for i, item in enumerate(node.value)]
            if isinstance(node, yaml.ScalarNode) and node.tag in {_TAG + "str", *(tag for tag, _, _ in _SCALARS)}:
                return self._scalar(node)
            raise ConfigError(
                f"{self._line(node)}: the tag {node.tag.replace(_TAG, '!!')} is not supported. "
                "Write plain text, numbers, true, false, null, lists and mappings."
            )
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:  # before merging: a merged key may be overridden, a written one may not
            key, line = key_node.value, key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                continue
            if key_node.tag != _TAG + "str":
                written = repr(key) if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                raise ConfigError(
                    f"{self._line(key_node)}: the key {written} is not text; keys are. Put it in quotes if it is meant."
                )
            if key in lines:
                raise ConfigError(
                    f"{self._line(key_node)}: the key {key!r} is already on line {lines[key]}; a key is written once. "
                    "Remove one of the two lines."
                )
            lines[key] = line
        self._loader.flatten_mapping(node)
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            self._places[*keys, key] = self._line(key_node)
            data[key] = self.build(value_node, (*keys, key))
        return data

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError):
            raise ConfigError(
                f"{self._line(node)}: {node.value!r} is not of the type its tag says. Leave the tag out."
            ) from None

    def _line(self, node: yaml.Node) -> str:
        return f"{self._file}, line {node.start_mark.line + 1}"
