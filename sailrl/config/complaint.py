"""Rules that check a section, and their complaints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from sailrl.config.base import Section
from sailrl.config.yaml_text import Keys, Where, dotted


@dataclass(frozen=True)
class Complaint:
    """One broken rule."""

    keys: Keys
    """The path of the value, from the section that the rule checks."""
    text: str
    """Starts with what is wrong with that value, whose full name is put in front."""


Rule: TypeAlias = Callable[[Any], Iterator[Complaint]]
Rules: TypeAlias = list[tuple[type[Section], Rule]]
"""Each rule with the class of sections it checks; it is applied to every such section of a configuration."""


def ask(rules: Rules, config: Section, where: Where) -> list[str]:
    """The complaints of all rules about all sections, one paragraph each, in the order of the file."""
    problems: dict[str, int] = {}
    for keys, section in _sections(config):
        for kind, rule in rules:
            if isinstance(section, kind):
                for complaint in rule(section):
                    at = (*keys, *complaint.keys)
                    problems[f"{where.of(at)}: {dotted(at)} {complaint.text}"] = where.order(at)
    return sorted(problems, key=problems.__getitem__)


def _sections(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Section]]:
    """The configuration and every section in it, with their paths."""
    inner: Any = ()
    if isinstance(value, Section):
        yield keys, value
        inner = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    for key, item in inner:
        yield from _sections(item, (*keys, key))
