"""What a column most likely holds, by its name and a value: data sets name the same things differently."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

_FILE = r"(?:_(?:path|file|filename|name|byte|data|url|uri|b64|base64|list))?s?"
_PICTURE_NAME = re.compile(
    rf"(?:\w+_)?(?:image|img|picture|pic|photo|photograph|screenshot|video|clip)s?(?:_?\d+)?{_FILE}(?:_?\d+)?"
)
_PICTURE_FILE = re.compile(r"data:image/.*|\S+\.(?:png|jpe?g|webp|gif|bmp|tiff?|mp4|avi|mov|mkv|webm)", re.IGNORECASE)
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")
_ANSWER_NAME = re.compile(
    r"(?!(?:has|is|num|n)_)(?:\w+_)?(?:answer|solution)s?(?:_(?:key|idx|index|letter|text|label|value|number))?"
    r"|(?:correct|right|true|gold|expected)(?:_(?:option|choice|label|output|response))?s?"
    r"|ground_?truths?|gts?|targets?|labels?|references?|reward_model"
)
_CHOICES_NAME = re.compile(r"(?:answer_)?(?:option|choice|candidate)s?(?:_[a-h\d])?|[a-h]")
_PROMPT_NAMES = (
    "question", "problem", "query", "messages", "conversations", "conversation", "instruction", "input", "text",
    "content", "questions", "problems", "dialog", "dialogue", "chat", "user_prompt",
)  # fmt: skip
_LOOKED_AT = 8
"""Entries of a list among which one that is not empty is looked for."""
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s\-.]+")


@lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
    """``imagePath`` and ``Image Path`` as ``image_path``."""
    return _CAMEL.sub("_", str(name)).lower()


@lru_cache(maxsize=4096)
def _is_picture_name(name: str) -> bool:
    return bool(_PICTURE_NAME.fullmatch(plain_name(name)))


def looks_like_pictures(name: str, value: Any) -> bool:
    """Whether a column of this name and value holds pictures or videos, or says where they are."""
    value = _first(value)
    if isinstance(value, str):
        return bool(value) and _is_picture_name(name)
    return _is_picture(value) or (_is_picture_name(name) and _may_be_picture(value))


def _first(value: Any) -> Any:
    """Of a list its first entry, which the others are like; everything else as it is."""
    return next((item for item in value[:_LOOKED_AT] if item), None) if isinstance(value, list | tuple) else value


def _is_picture(value: Any) -> bool:
    """By the value alone: the bytes of an image file, as such or as the datasets library stores them."""
    if isinstance(value, Mapping):
        return set(value) == {"bytes", "path"} and any(value.values())
    return isinstance(value, bytes | bytearray) and is_image_file(value)


def is_image_file(content: bytes | bytearray) -> bool:
    """Whether bytes begin as the file of an image does."""
    return bytes(content[:12]).startswith(_MAGIC)


def _may_be_picture(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_filled, value.values()))
    return isinstance(value, bytes) and bool(value)


def names_a_picture(value: Any) -> bool:
    """A file of a picture or a video, whatever the column is called."""
    value = _first(value)
    return isinstance(value, str) and bool(_PICTURE_FILE.fullmatch(value.strip()))


def picture_columns(row: Mapping[str, Any], unread: Iterable[str], *, any_name: bool) -> dict[str, bool]:
    """The unread columns, or ``column.field`` in an object, that hold pictures (True) or say where they are (False).

    Args:
        any_name: the name of a file of a picture counts whatever its column is called.
    """
    found: dict[str, bool] = {}
    for name in unread:
        value = row[name]
        inner = [(f"{name}.{key}", key, item) for key, item in value.items()] if isinstance(value, Mapping) else []
        for place, key, item in [(name, name, value), *inner]:
            if looks_like_pictures(key, item) or (any_name and names_a_picture(item)):
                found[place] = not isinstance(_first(item), str)
                break
    return found


def prompt_column(names: Iterable[str]) -> str | None:
    """The column that most likely holds the question."""
    known = {plain_name(name): name for name in reversed(list(names))}
    return next((known[name] for name in _PROMPT_NAMES if name in known), None)


def answer_column(row: Mapping[str, Any], unread: Iterable[str]) -> str | None:
    """The unread column, or ``column.field`` in an object, that most likely holds the reference answer."""
    for name in unread:
        value = row[name]
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if _ANSWER_NAME.fullmatch(plain_name(key)) and _filled(inner):
                    return f"{name}.{key}"
        elif _ANSWER_NAME.fullmatch(plain_name(name)) and _filled(value):
            return name
    return None


def looks_like_choices(name: str) -> bool:
    """Whether a column of this name holds the options of a question, or one of them."""
    return bool(_CHOICES_NAME.fullmatch(plain_name(name)))


def _filled(value: Any) -> bool:
    return value is not None and value not in ("", [], {})
