"""Images of a problem as a judge receives them: data URLs of bounded size, named by the hash of their bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from dataclasses import dataclass
from functools import lru_cache

from sailrl.types import ImageSource

_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


class UnusableImage(Exception):
    """The image cannot be shown to a judge; ``reason`` is a fixed word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class JudgeImage:
    """An encoded image file in a format that every endpoint reads."""

    mime: str
    data: bytes
    digest: str
    """SHA-256 of ``data``; stands for the image in the cache key."""

    def data_url(self) -> str:
        """The image as a ``data:`` URL with base64."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode('ascii')}"


def load_image(source: ImageSource, max_bytes: int) -> JudgeImage:
    """Reads one image of a problem. PNG, JPEG, GIF and WebP files within ``max_bytes`` go out byte for byte.

    Raises:
        UnusableImage: ``image_missing``, ``image_unreadable`` or ``image_too_large``.
    """
    if isinstance(source, bytes):
        return _prepare(source, max_bytes)
    try:
        status = os.stat(source)
        return _load_file(source, status.st_mtime_ns, status.st_size, max_bytes)
    except (OSError, ValueError):  # ValueError: a null byte in the path
        raise UnusableImage("image_missing") from None


@lru_cache(maxsize=32)
def _load_file(path: str, mtime_ns: int, size: int, max_bytes: int) -> JudgeImage:
    """The responses of a group are judged together and share their image, so a few recent files are kept.
    Time and size are part of the key, so that a changed file is read again."""
    with open(path, "rb") as file:
        return _prepare(file.read(), max_bytes)


def _prepare(data: bytes, max_bytes: int) -> JudgeImage:
    mime = next((mime for magic, mime in _MAGIC.items() if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        mime = "image/webp"
    if mime is None or len(data) > max_bytes:
        mime, data = _encode_again(data, max_bytes)
    return JudgeImage(mime, data, hashlib.sha256(data).hexdigest())


def _encode_again(data: bytes, max_bytes: int) -> tuple[str, bytes]:
    """As PNG if that fits, else as a JPEG that is made smaller until it does."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except Exception:  # Pillow raises a dozen kinds, among them its own guard against decompression bombs
        raise UnusableImage("image_unreadable") from None
    encoded = _encode(image, "PNG")
    if len(encoded) <= max_bytes:
        return "image/png", encoded
    for _ in range(8):
        encoded = _encode(image, "JPEG")
        if len(encoded) <= max_bytes:
            return "image/jpeg", encoded
        shrink = min(0.9, 0.9 * (max_bytes / len(encoded)) ** 0.5)
        image = image.resize((max(1, int(image.width * shrink)), max(1, int(image.height * shrink))))
    raise UnusableImage("image_too_large")


def _encode(image: object, format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, quality=90)  # type: ignore[attr-defined]
    return buffer.getvalue()
