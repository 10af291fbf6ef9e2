"""The forms in which a row gives a picture: a path, the bytes of a file, base64, a data URI, an object with one of
these, or an image of PIL."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sailrl.data.columns import is_image_file
from sailrl.data.fields import BrokenRow, kind_of, list_in_text
from sailrl.types import ImageSource

PICTURE_KEYS = ("bytes", "path", "image", "image_url", "url", "base64")
"""Fields under which an object, or a part of a chat, has its picture; the first that is filled counts."""
_SHORTEST_BASE64 = 64
"""Characters; the smallest picture takes more."""
_LONGEST_PATH = 4096
"""Characters; more than a file system takes."""


def as_list(value: Any) -> Any:
    """The pictures of a row as a list: one picture is a list of one, a list that was written as text is that list."""
    if isinstance(value, str):
        return list_in_text(value) or [value]
    return [value] if isinstance(value, bytes | Mapping) or _is_pil(value) else value


def image_source(image: Any, place: str, folder: Path | None, must_exist: bool) -> ImageSource:
    """A picture as an absolute path or as the bytes of an image file.

    Args:
        folder: what a relative path starts from.
        must_exist: a path has to lead to a file.

    Raises:
        BrokenRow: it is in none of the forms, or an address.
    """
    image = _inside(image)
    if _is_pil(image):
        return _encoded(image)
    if isinstance(image, bytes | bytearray) and image:
        return bytes(image)
    if not isinstance(image, str) or not image:
        raise BrokenRow(place, f"must be a path or the bytes of an image file, this is {_emptiness(image)}")
    if image.startswith("data:"):
        return _from_data_uri(image, place)
    if _begins_as_base64(image):
        if (content := _decoded(image)) is None:
            raise BrokenRow(place, f"is a picture in base64 that is cut or damaged ({len(image):,} characters)")
        return content
    if len(image) > _LONGEST_PATH:
        raise BrokenRow(place, f"is a text of {len(image):,} characters, and no picture in base64: {image[:40]!r}...")
    if image.lstrip().startswith(("[", "{")):
        raise BrokenRow(place, f"{image[:40]!r} is a list or an object that was written as text. Write it as such")
    if image.startswith("file://"):
        image = unquote(image.removeprefix("file://"))
    if "://" in image:
        raise BrokenRow(place, f"{image!r} is an address; images are files, nothing is downloaded")
    path = (folder or Path()).absolute() / image
    if must_exist and not path.is_file():
        raise BrokenRow(place, f"there is no file {path}; paths are relative to the file of the row")
    return str(path)


def _inside(image: Any) -> Any:
    while isinstance(image, Mapping):  # {"image_url": {"url": ...}}
        image = next((image[key] for key in PICTURE_KEYS if image.get(key)), None)
    return image


def _from_data_uri(text: str, place: str) -> bytes:
    head, comma, content = text.partition(",")
    if not comma or not head.endswith(";base64"):
        raise BrokenRow(place, f"{text[:40]!r} is no data URI of the form data:image/png;base64,...")
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise BrokenRow(place, f"{text[:40]!r} has no base64 behind its comma ({error})") from None


def _begins_as_base64(text: str) -> bool:
    """Whether a text begins as a picture in base64 does; a path may have the same characters."""
    return len(text) >= _SHORTEST_BASE64 and is_image_file(_decoded(text[:_SHORTEST_BASE64]) or b"")


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _is_pil(value: Any) -> bool:
    return hasattr(value, "convert") and hasattr(value, "save")


def _encoded(image: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _emptiness(value: Any) -> str:
    return "empty" if value in ("", b"") else kind_of(value)
