"""Images reach the judge byte for byte where they can, and smaller where they must."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
from pathlib import Path

import pytest
from PIL import Image

from rewards.judge_api.images import UnusableImage, load_image

LIMIT = 1 << 20


def encoded(format: str, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> bytes:
    """A picture of noise, which no format can compress much."""
    channels = {"RGB": 3, "RGBA": 4}[mode]
    noise = random.Random(0).randbytes(size[0] * size[1] * channels)
    buffer = io.BytesIO()
    Image.frombytes(mode, size, noise).save(buffer, format=format)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("format", "mime"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")]
)
def test_common_formats_are_passed_on_unchanged(format: str, mime: str) -> None:
    data = encoded(format)
    image = load_image(data, LIMIT)
    assert image.data == data
    assert image.digest == hashlib.sha256(data).hexdigest()
    assert image.data_url() == f"data:{mime};base64,{base64.b64encode(data).decode()}"


def test_a_file_and_its_bytes_are_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    assert load_image(str(path), LIMIT) == load_image(path.read_bytes(), LIMIT)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    before = load_image(str(path), LIMIT)
    path.write_bytes(encoded("PNG", (9, 9)))
    os.utime(path, ns=(1, 1))
    assert load_image(str(path), LIMIT).digest != before.digest


def test_other_formats_are_encoded_as_png() -> None:
    image = load_image(encoded("BMP"), LIMIT)
    assert image.mime == "image/png"
    with Image.open(io.BytesIO(image.data)) as again, Image.open(io.BytesIO(encoded("BMP"))) as original:
        assert again.tobytes() == original.tobytes()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_image_over_the_limit_is_made_to_fit(mode: str) -> None:
    data = encoded("PNG", (300, 200), mode)
    image = load_image(data, 20_000)
    assert len(data) > 100_000
    assert len(image.data) <= 20_000
    with Image.open(io.BytesIO(image.data)) as small:
        assert small.width / small.height == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x00" * 100])
def test_what_is_no_image_is_unusable(data: bytes) -> None:
    with pytest.raises(UnusableImage, match="image_unreadable"):
        load_image(data, LIMIT)


@pytest.mark.parametrize("path", ["/nowhere/a.png", "a\x00b.png", "/"])
def test_a_file_that_is_not_there_is_missing(path: str) -> None:
    with pytest.raises(UnusableImage, match="image_missing"):
        load_image(path, LIMIT)


def test_a_limit_that_nothing_meets_is_reported() -> None:
    with pytest.raises(UnusableImage, match="image_too_large"):
        load_image(encoded("PNG", (64, 64)), 10)
