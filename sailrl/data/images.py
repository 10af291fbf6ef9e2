"""Images by content: each distinct one is checked once, kept as its encoded bytes, and decoded when it is used.

A store is a folder that rollout workers, the learner and the report share. Each process decodes for itself, with the
same library, so all of them see the same pixels. It keeps the pixels of the last images in memory, up to a bound.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from sailrl.data.atomic import atomic
from sailrl.errors import DataError
from sailrl.types import ImageSource

FOLDER = "images"
"""Where a run folder has its store."""
ENCODED = "encoded"
"""Where a store has its files, each named by the SHA-256 of its content."""
DECODED_BYTES = 1 << 30
"""Memory for decoded pixels in each process. A megapixel takes 3 MB."""
MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a few kilobytes can unfold to gigabytes."""
MAX_ASPECT = 100.0
"""Longer side over shorter side; the models' own resizing gives up at 200."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Formats that are decoded in this process. PIL knows more, and some of them start other programs (EPS)."""
_TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


class ImageStore:
    """A folder of images by the SHA-256 of their encoded bytes. Every image in it can be decoded.

    Args:
        root: the folder; every process of a machine opens the same one.
        decoded_bytes: bound on the decoded pixels that this process keeps in memory.
    """

    def __init__(self, root: Path, *, decoded_bytes: int = DECODED_BYTES) -> None:
        self._root, self._budget = root, decoded_bytes
        self._sizes: dict[str, tuple[int, int]] = {}
        self._sources: dict[str, str] = {}
        self._pixels: OrderedDict[str, np.ndarray] = OrderedDict()
        self._held = 0
        self._lock = Lock()
        self.decoded = 0
        """Images this process has decoded."""

    def add(self, source: ImageSource) -> str:
        """Checks an image, keeps it, and returns its hash. What is in the store already is not decoded again.

        Raises:
            DataError: the image is missing, empty, not an image, truncated, animated, too large or too narrow.
            OSError: the disk refuses it.
        """
        if isinstance(source, str) and source in self._sources:
            return self._sources[source]
        encoded = source if isinstance(source, bytes) else _read(source)
        digest = hashlib.sha256(encoded).hexdigest()
        if digest not in self._sizes:
            if self._path(digest).is_file():
                self._sizes[digest] = size_of(encoded)
            else:
                height, width, _ = self._decode(encoded, _name(source)).shape
                self._write(digest, encoded)
                self._sizes[digest] = (height, width)
        if isinstance(source, str):
            self._sources[source] = digest
        return digest

    def keep(self, source: ImageSource) -> str:
        """The image as a path: bytes become a file of the store, and a path stays as it is.

        Raises:
            DataError: see ``add``.
        """
        return source if isinstance(source, str) else str(self._path(self.add(source)).absolute())

    def size(self, digest: str) -> tuple[int, int]:
        """(height, width) in pixels, after turning the image as its EXIF data says."""
        if digest not in self._sizes:
            self._sizes[digest] = size_of(self._encoded(digest))
        return self._sizes[digest]

    def pixels(self, digest: str) -> np.ndarray:
        """[H, W, 3] uint8, RGB, read-only.

        Raises:
            DataError: the store does not hold this image, or its file has changed.
        """
        with self._lock:
            if digest in self._pixels:
                self._pixels.move_to_end(digest)
                return self._pixels[digest]
        pixels = self._decode(self._encoded(digest), digest[:12])
        with self._lock:
            if digest not in self._pixels:
                self._pixels[digest] = pixels
                self._held += pixels.nbytes
            while self._held > self._budget:
                _, oldest = self._pixels.popitem(last=False)
                self._held -= oldest.nbytes
        return pixels

    def image(self, digest: str) -> Any:
        """The image as PIL has it."""
        from PIL import Image

        return Image.fromarray(self.pixels(digest))

    def _path(self, digest: str) -> Path:
        return self._root / ENCODED / digest

    def _encoded(self, digest: str) -> bytes:
        try:
            encoded = self._path(digest).read_bytes()
        except OSError as error:
            raise DataError(f"image {digest[:12]} is not in the store {self._root}: {error}") from error
        if hashlib.sha256(encoded).hexdigest() != digest:
            raise DataError(f"{self._path(digest)} is damaged: its content is not what it was stored with. Remove it")
        return encoded

    def _decode(self, encoded: bytes, name: str) -> np.ndarray:
        self.decoded += 1
        return decode(encoded, name)

    def _write(self, digest: str, content: bytes) -> None:
        self._path(digest).parent.mkdir(parents=True, exist_ok=True)
        with atomic(self._path(digest), shared=True) as partial:
            partial.write_bytes(content)


def size_of(encoded: bytes) -> tuple[int, int]:
    """(height, width) of an image that can be decoded, from its header, turned as its EXIF data says."""
    image = _open(encoded)
    width, height = image.size
    turned = image.format != "TIFF" and image.getexif().get(0x0112) in _TURNED  # PIL gives a TIFF's size after turning
    return (width, height) if turned else (height, width)


def decode(encoded: bytes, name: str) -> np.ndarray:
    """[H, W, 3] uint8 pixels: turned as EXIF says, transparency on white, any colour model to RGB.

    Raises:
        DataError: see ImageStore.add.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not encoded:
        raise DataError(f"image {name} is empty (0 bytes)")
    try:
        image = _open(encoded)
        _check_shape(image, name)
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise DataError(f"image {name} has floating-point pixels; save it with 8 or 16 bits per channel")
        if image.mode.startswith("I"):  # 16 bits in one channel, which PIL would cut off at 255 instead of scaling
            image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257 + 0.5).astype(np.uint8))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"image {name} is not in a format that can be read; use PNG, JPEG or WebP") from None
    except Image.DecompressionBombError:
        raise DataError(f"image {name} has too many pixels; at most {MAX_PIXELS:,} are allowed") from None
    except Exception as error:  # PIL raises anything from OSError to struct.error on broken files
        raise DataError(f"image {name} is corrupt or cut short: {type(error).__name__}: {error}") from None


def _open(encoded: bytes) -> Any:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the rule
        return Image.open(io.BytesIO(encoded), formats=FORMATS)


def _check_shape(image: Any, name: str) -> None:
    width, height = image.size
    if not width or not height:
        raise DataError(f"image {name} is {width} x {height} pixels; both sides must be at least 1")
    if width * height > MAX_PIXELS:
        raise DataError(f"image {name} has {width * height:,} pixels; at most {MAX_PIXELS:,} are allowed")
    aspect = max(width, height) / min(width, height)
    if aspect > MAX_ASPECT:
        raise DataError(f"image {name} is {width} x {height}, sides of 1 : {aspect:.0f}; at most 1 : {MAX_ASPECT:.0f}")
    # Cameras and phones write JPEGs that carry further views of the same scene (MPO); the first is the picture.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise DataError(f"image {name} is an animation of {image.n_frames} frames; give its frames as single images")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror or error}") from error


def _name(source: ImageSource) -> str:
    return source if isinstance(source, str) else f"of {len(source)} bytes"
