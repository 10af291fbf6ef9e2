"""Images by content: each distinct one is checked and decoded once per machine, then shared by every process.

A store is a folder. Decoded pixels lie there as plain arrays that processes map into memory, so rollout workers, the
learner and the report share one copy, which the operating system may drop and read again under memory pressure.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from sailrl.errors import DataError
from sailrl.types import ImageSource

FOLDER = "images"
"""Where a run folder has its store."""
MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a few kilobytes can unfold to gigabytes."""
MAX_ASPECT = 100.0
"""Longer side over shorter side; the models' own resizing gives up at 200."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Formats that are decoded in this process. PIL knows more, and some of them start other programs (EPS)."""


class ImageStore:
    """A folder of images by the SHA-256 of their encoded bytes.

    Args:
        root: the folder; every process of a machine opens the same one.
        decoded_bytes: budget for decoded pixels on disk; images beyond it are decoded at every use.
    """

    def __init__(self, root: Path, *, decoded_bytes: int = 16 << 30) -> None:
        self._root, self._budget = root, decoded_bytes
        self._sizes: dict[str, tuple[int, int]] = {}
        self._sources: dict[ImageSource, str] = {}
        self.decoded = 0
        """Images this process has decoded."""
        (root / "encoded").mkdir(parents=True, exist_ok=True)
        (root / "decoded").mkdir(parents=True, exist_ok=True)
        self._used = sum(file.stat().st_size for file in (root / "decoded").glob("*.npy"))

    def add(self, source: ImageSource) -> str:
        """Checks an image, keeps it, and returns its hash. The same bytes are looked at once.

        Raises:
            DataError: the image is missing, empty, not an image, truncated, animated, too large or too narrow.
        """
        known = self._sources.get(source)
        if known is not None:
            return known
        encoded = source if isinstance(source, bytes) else _read(source)
        digest = hashlib.sha256(encoded).hexdigest()
        if digest not in self._sizes:
            pixels = self._decoded(digest)
            if pixels is None:
                pixels = self._decode(encoded, _name(source))
                self._keep(digest, encoded, pixels)
            self._sizes[digest] = (int(pixels.shape[0]), int(pixels.shape[1]))
        self._sources[source] = digest
        return digest

    def size(self, digest: str) -> tuple[int, int]:
        """(height, width) in pixels, after turning the image as its EXIF data says."""
        if digest not in self._sizes:
            height, width, _ = self.pixels(digest).shape
            self._sizes[digest] = (height, width)
        return self._sizes[digest]

    def pixels(self, digest: str) -> np.ndarray:
        """[H, W, 3] uint8, RGB; read-only, shared between processes where it fits the budget.

        Raises:
            DataError: the store does not hold this image.
        """
        pixels = self._decoded(digest)
        if pixels is not None:
            return pixels
        try:
            encoded = (self._root / "encoded" / digest).read_bytes()
        except OSError as error:
            raise DataError(f"image {digest[:12]} is not in the store {self._root}: {error}") from error
        return self._decode(encoded, digest[:12])

    def image(self, digest: str) -> Any:
        """The image as PIL has it."""
        from PIL import Image

        return Image.fromarray(self.pixels(digest))

    def _decoded(self, digest: str) -> np.ndarray | None:
        try:
            return np.load(self._root / "decoded" / f"{digest}.npy", mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            return None

    def _decode(self, encoded: bytes, name: str) -> np.ndarray:
        self.decoded += 1
        return decode(encoded, name)

    def _keep(self, digest: str, encoded: bytes, pixels: np.ndarray) -> None:
        self._write("encoded", digest, encoded)
        if self._used + pixels.nbytes <= self._budget:
            buffer = io.BytesIO()
            np.save(buffer, pixels, allow_pickle=False)
            self._write("decoded", f"{digest}.npy", buffer.getvalue())
            self._used += pixels.nbytes

    def _write(self, folder: str, name: str, content: bytes) -> None:
        """A reader sees the whole file or none, whoever else writes it too."""
        handle, partial = tempfile.mkstemp(dir=self._root / folder, prefix=".writing-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(partial, self._root / folder / name)


def decode(encoded: bytes, name: str) -> np.ndarray:
    """[H, W, 3] uint8 pixels: turned as EXIF says, transparency on white, any colour model to RGB.

    Raises:
        DataError: see ImageStore.add.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not encoded:
        raise DataError(f"image {name} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the rule below is ours
            image: Any = Image.open(io.BytesIO(encoded), formats=FORMATS)
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
