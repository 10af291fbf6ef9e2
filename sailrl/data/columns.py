"""What a column most likely holds, by its name and a value: data sets name the same things differently."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_FILE = r"(?:_(?:path|file|filename|name|byte|data|url|uri|b64|base64|list))?s?"
_PICTURE_NAME = re.compile(
    rf"(?:\w+_)?(?:image|img|picture|pic|photo|photograph|screenshot|video|clip)s?(?:_?\d+)?{_FILE}(?:_?\d+)?"
)
_PICTURE_FILE = re.compile(r"data:image/.*|\S+\.(?:png|jpe?g|webp|gif|bmp|tiff?|mp4|avi|mov|mkv|webm)", re.IGNORECASE)
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")
_ANSWER_NAME = re.compile(
    r"(?:\w+_)?(?:answer|solution)s?(?:_(?:key|idx|index|letter|text|label|value|number))?"
    r"|(?:correct|right|true|gold|expected)(?:_(?:option|choice|label|output|response))?s?"
    r"|ground_?truths?|gts?|targets?|labels?|references?|reward_model"
)
_CHOICES_NAME = re.compile(r"(?:answer_)?(?:option|choice|candidate)s?(?:_[a-h\d])?|[a-h]")
_PROMPT_NAMES = (
    "question", "problem", "query", "messages", "conversations", "conversation", "instruction", "input", "text",
    "content", "questions", "problems", "dialog", "dialogue", "chat", "user_prompt",
)  # fmt: skip
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\s\-.]+")


def plain_name(name: str) -> str:
    """``imagePath`` and ``Image Path`` as ``image_path``."""
    return _CAMEL.sub("_", str(name)).lower()


def looks_like_pictures(name: str, value: Any) -> bool:
    """Whether a column of this name and value holds pictures or videos, or says where they are."""
    if isinstance(value, list | tuple):
        return any(looks_like_pictures(name, item) for item in value)
    return _is_picture(value) or (bool(_PICTURE_NAME.fullmatch(plain_name(name))) and _may_be_picture(value))


def _is_picture(value: Any) -> bool:
    """By the value alone: the bytes of an image file, as such or as the datasets library stores them."""
    if isinstance(value, Mapping):
        return set(value) == {"bytes", "path"} and any(value.values())
    return isinstance(value, bytes | bytearray) and bytes(value[:12]).startswith((*_MAGIC, b"RIFF"))


def _may_be_picture(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(key in value for key in ("bytes", "path", "url", "image", "frames"))
    return isinstance(value, str | bytes) and bool(value)


def names_a_picture(value: Any) -> bool:
    """A file of a picture or a video, whatever the column is called."""
    if isinstance(value, list | tuple):
        return any(map(names_a_picture, value))
    return isinstance(value, str) and bool(_PICTURE_FILE.fullmatch(value.strip()))


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
    return value is not None and not isinstance(value, bool) and value not in ("", [], {})
