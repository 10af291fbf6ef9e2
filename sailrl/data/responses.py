"""The text that a row of a supervised stage has to imitate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sailrl.data.fields import BrokenRow, refuse_half_characters
from sailrl.data.messages import is_chat_as_text
from sailrl.types import content_texts

READS = ("response", "completion")
"""Columns that hold it, besides ``meta.response``."""


def imitated(row: Mapping[str, Any]) -> str:
    """The text to imitate: ``completion`` (one assistant message), ``response``, or ``meta.response``.

    Raises:
        BrokenRow: there is none.
    """
    text = _text(row)
    refuse_half_characters(text, "response")
    return text


def _text(row: Mapping[str, Any]) -> str:
    completion = row.get("completion")
    if completion is not None:
        return _assistant_text(completion)
    meta = row.get("meta")
    response = row.get("response", meta.get("response") if isinstance(meta, Mapping) else None)
    if not isinstance(response, str) or not response:
        raise BrokenRow("response", "is missing or no text; a row to imitate has `response` or `completion`")
    if is_chat_as_text(response):
        raise BrokenRow("response", "is a chat that was written as text. Write its last message, or `completion`")
    return response


def _assistant_text(completion: Any) -> str:
    messages = completion if isinstance(completion, Sequence) and not isinstance(completion, str) else []
    if len(messages) != 1 or not isinstance(messages[0], Mapping) or messages[0].get("role") != "assistant":
        raise BrokenRow("completion", "must be a list of one assistant message")
    content = messages[0].get("content")
    texts = content_texts(content)
    parts = 1 if isinstance(content, str) else len(content or ())
    if not texts or len(texts) != parts:
        raise BrokenRow("completion", "must hold text, or a list of text parts")
    return "".join(texts)
