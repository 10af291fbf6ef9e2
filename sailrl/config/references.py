"""References of a recipe: ``${longcot.model}`` in a stage stands for the output of an earlier stage."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from sailrl.config.base import Section
from sailrl.config.yaml_text import Keys

_REFERENCE = re.compile(r"\$\{\s*([^{}.]+?)\s*\.\s*([^{}]+?)\s*\}")

SERVICE_OUTPUT = "url"
"""What a service gives: its address. What a stage gives is in ``JobConfig.outputs``."""


def references(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, str, str]]:
    """Every reference in a value and below it: its path, the name of the stage, and the name of the output."""
    if isinstance(value, str):
        for name, output in _REFERENCE.findall(value):
            yield keys, name, output
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from references(getattr(value, name), (*keys, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from references(item, (*keys, key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from references(item, (*keys, i))


def refers(value: Any) -> bool:
    """Whether a value has a reference, so that it is known only after an earlier stage."""
    return next(references(value), None) is not None


def resolved(value: Any, lookup: Callable[[str, str], str]) -> Any:
    """Plain data with every reference replaced by what ``lookup(stage, output)`` returns."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: lookup(found[1], found[2]), value)
    if isinstance(value, dict):
        return {key: resolved(item, lookup) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, lookup) for item in value]
    return value
