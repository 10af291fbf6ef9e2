"""Rows in the forms in which data sets are published, read as rows of the contract. Only what can have one meaning is
taken; everything else is named in the configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sailrl.data.columns import picture_columns, plain_name
from sailrl.data.messages import without_response

_QUESTIONS = ("question", "problem", "query", "messages", "conversations")
"""Columns that hold the question when there is no ``prompt`` and only one of them."""


def understood(row: Mapping[str, Any], free: Collection[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The row with ``prompt``, ``images`` and ``response`` where other columns have them.

    Args:
        free: fields of the contract that the configuration reads from no other column.

    Returns:
        The row, and for each field that was found the column that it was read from.
    """
    found, taken = dict(row), {}
    if "prompt" in free and found.get("prompt") is None:
        if _is_alpaca(found):
            question, context = found.pop("instruction"), found.pop("input", None)
            found["prompt"] = f"{question}\n{context}" if context else question
            taken["prompt"] = "instruction and input"
            if found.get("response") is None:
                found["response"], taken["response"] = found.pop("output"), "output"
        else:
            names = [name for name in found if plain_name(name) in _QUESTIONS and found[name] not in (None, "")]
            if len(names) == 1:
                found["prompt"], taken["prompt"] = found.pop(names[0]), names[0]
                taken |= split_response(found, names[0])
    if "images" in free and found.get("images") is None:
        pictures = picture_columns(found, [name for name in found if name != "prompt"], any_name=False)
        if len(pictures) == 1 and (name := next(iter(pictures))) in found and plain_name(name) == "image":
            found["images"], taken["images"] = found.pop(name), name
    return found, taken


def split_response(row: dict[str, Any], column: str) -> dict[str, str]:
    """Takes the last message of a chat that ends with the assistant's out of the prompt, as the ``response``.

    Returns:
        What was found, as ``understood`` returns it.
    """
    row["prompt"], response = without_response(row["prompt"])
    if response is None or row.get("response") is not None or row.get("completion") is not None:
        return {}
    row["response"] = response
    return {"response": f"the last message of {column}"}


def _is_alpaca(row: Mapping[str, Any]) -> bool:
    texts = (row.get("instruction"), row.get("output"))
    return all(isinstance(text, str) and text for text in texts) and isinstance(row.get("input") or "", str)
