"""What every reader of a row needs: how a broken rule is raised, and a value's name in the words of JSON."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any


class BrokenRow(Exception):
    """A row breaks a rule of the contract."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(field, rule)
        self.field = field
        """The field, or empty when the row as a whole is at fault."""
        self.rule = rule


def kind_of(value: Any) -> str:
    """What a value is, in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    for kind, name in ((str, "text"), (bytes, "bytes"), (Mapping, "an object")):
        if isinstance(value, kind):
            return name
    return "a list" if isinstance(value, Sequence) else f"a {type(value).__name__}"


def value_in_text(text: str) -> Any:
    """The value in a text that went through a table: JSON, or Python's own way of writing; None where it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None


def list_in_text(text: str) -> list[Any] | None:
    """The list in a text that is one; None for any other text."""
    if not (text.lstrip().startswith("[") and text.rstrip().endswith("]")):
        return None
    found = value_in_text(text)
    return found if isinstance(found, list) else None


def refuse_half_characters(value: Any, field: str) -> None:
    """Refuses text that has no form in UTF-8, at any depth of ``value``: no tokenizer takes it.

    Raises:
        BrokenRow: there is a lone surrogate, one half of a character.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = ascii(value[error.start])[1:-1]
            raise BrokenRow(field, f"has {half} at character {error.start}, one half of a character") from None
    elif isinstance(value, Mapping):
        for name, item in value.items():
            refuse_half_characters(item, f"{field}.{name}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            refuse_half_characters(item, f"{field}[{number}]")
