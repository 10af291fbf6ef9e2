"""The image store: what is no usable image is refused in words, the rest is kept as its bytes and decoded when used."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sailrl.data.images import ImageStore, decode, size_of
from sailrl.errors import DataError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def _encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def _frames(kind: str) -> bytes:
    first, *others = [Image.new("RGB", (8, 8), (60 * i, 0, 0)) for i in range(3)]
    return _encoded(first, kind, save_all=True, append_images=others)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoded", "rule"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<html>404 Not Found</html>", "is not in a format that can be read; use PNG, JPEG or WebP"),
        (_encoded(_noise(), "EPS"), "is not in a format that can be read"),  # PIL would start Ghostscript for it
        (_encoded(_noise())[:3000], "is corrupt or cut short"),
        (_encoded(_noise(), "JPEG")[:1000], "is corrupt or cut short"),
        (_encoded(Image.new("RGB", (1010, 10))), "is 1010 x 10, sides of 1 : 101; at most 1 : 100"),
        (_encoded(Image.new("RGB", (10, 1010))), "is 10 x 1010, sides of 1 : 101; at most 1 : 100"),
        (_frames("GIF"), "is an animation of 3 frames"),
        (_frames("WEBP"), "is an animation of 3 frames"),
        (_frames("PNG"), "is an animation of 3 frames"),
        (_encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "has floating-point pixels"),
    ],
    ids=["empty", "html", "eps", "cut-png", "cut-jpeg", "wide", "tall", "gif", "webp", "apng", "float"],
)
def test_what_is_no_usable_image_is_refused_with_its_name_and_the_rule(encoded: bytes, rule: str) -> None:
    with pytest.raises(DataError, match=f"image cat.png {rule}"):
        decode(encoded, "cat.png")


def test_a_flipped_byte_in_the_pixels_is_noticed() -> None:
    broken = bytearray(_encoded(_noise()))
    broken[len(broken) // 2] ^= 0xFF
    with pytest.raises(DataError, match="corrupt or cut short"):
        decode(bytes(broken), "cat.png")


def test_an_image_without_width_is_refused() -> None:
    png = bytearray(_encoded(_noise()))
    png[16:20] = bytes(4)  # the width in the header
    with pytest.raises(DataError):
        decode(bytes(png), "cat.png")


@pytest.mark.parametrize(
    ("height", "rule"),
    [(5_100, "has 102,000,000 pixels; at most 100,000,000"), (15_000, "has too many pixels; at most 100,000,000")],
    ids=["ours", "PIL's"],
)
def test_a_decompression_bomb_is_refused_before_it_unfolds(height: int, rule: str) -> None:
    """A few kilobytes of PNG, hundreds of megabytes of pixels."""
    bomb = _encoded(Image.new("1", (20_000, height)))
    assert len(bomb) < 100_000
    with pytest.raises(DataError, match=f"image bomb.png {rule}"):
        # Cut short, so that decoding would end in another error.
        decode(bomb[: len(bomb) // 2], "bomb.png")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store")
    with pytest.raises(DataError, match=r"image .*absent\.png cannot be read: No such file"):
        store.add(str(tmp_path / "absent.png"))
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        store.add(str(tmp_path))


# --- what comes out -------------------------------------------------------------------------------------------------


def test_pixels_come_out_as_they_were() -> None:
    noise = _noise()
    assert np.array_equal(decode(_encoded(noise), "a"), np.asarray(noise))


def test_colour_models_become_rgb() -> None:
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([*RED, *BLUE])
    assert decode(_encoded(palette), "a").tolist() == [[[0, 0, 255]] * 2] * 2
    assert (decode(_encoded(Image.new("L", (2, 2), 77)), "a") == 77).all()
    assert (decode(_encoded(Image.new("1", (2, 2), 1)), "a") == 255).all()
    cmyk = decode(_encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), "a")
    assert np.abs(cmyk.astype(int) - RED).max() <= 3  # red ink, lossy


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut_off(kind: str) -> None:
    """x / 257, since 65535 / 257 = 255. Cutting off instead makes everything above 255 white: a blank picture."""
    deep = Image.fromarray(np.array([[0, 257, 32768], [65535, 25700, 128]], dtype=np.uint16))
    grey = decode(_encoded(deep, kind), "a")[:, :, 0]
    assert grey.tolist() == [[0, 1, 128], [255, 100, 0]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_white_paper(mode: str) -> None:
    clear = Image.new(mode, (2, 2), (10, 20, 30, 0) if mode == "RGBA" else (10, 0))
    assert (decode(_encoded(clear), "a") == 255).all()


def test_a_transparent_palette_colour_is_white_paper_too() -> None:
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([*RED, *BLUE])
    palette.putpixel((0, 0), 0)
    assert decode(_encoded(palette, transparency=1), "a").tolist() == [[[255, 0, 0], [255] * 3], [[255] * 3] * 2]


def test_a_photograph_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    upright = Image.new("RGB", (40, 20), RED)
    upright.paste(BLUE, (20, 0, 40, 20))  # blue on the right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: what is on the right comes to the bottom
    encoded = _encoded(upright, "PNG", exif=exif)
    turned = decode(encoded, "a")
    assert turned.shape == (40, 20, 3)
    assert (turned[0, 0].tolist(), turned[-1, -1].tolist()) == ([*RED], [*BLUE])
    store = ImageStore(tmp_path)
    assert store.size(store.add(encoded)) == (40, 20)
    assert decode(_encoded(upright), "a").shape == (20, 40, 3)


def test_a_camera_jpeg_with_a_second_view_is_its_first() -> None:
    first, second = Image.new("RGB", (16, 16), RED), Image.new("RGB", (8, 8), BLUE)
    shot = decode(_encoded(first, "MPO", save_all=True, append_images=[second]), "a")
    assert shot.shape == (16, 16, 3)
    assert np.abs(shot.astype(int) - RED).max() <= 3


# --- content addressing ---------------------------------------------------------------------------------------------


def test_the_same_bytes_under_two_names_are_decoded_once(tmp_path: Path) -> None:
    encoded = _encoded(_noise())
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded)
    store = ImageStore(tmp_path / "store")
    hashes = {store.add(source) for source in (str(tmp_path / "a.png"), str(tmp_path / "b.png"), encoded)}
    assert len(hashes) == 1
    assert store.decoded == 1
    assert store.add(_encoded(_noise(32))) not in hashes
    assert store.decoded == 2


def test_a_run_folder_holds_encoded_bytes_and_nothing_else(tmp_path: Path) -> None:
    """64 x 64 pixels of one colour: 12 kB decoded, a few hundred bytes as PNG."""
    encoded = _encoded(Image.new("RGB", (64, 64), RED))
    digest = ImageStore(tmp_path).add(encoded)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [file.name for file in files] == [digest]
    assert files[0].read_bytes() == encoded


def test_pixels_are_decoded_at_their_first_use_and_then_held(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    digest = store.add(_encoded(_noise()))
    assert store.decoded == 1  # whether it can be
    for _ in range(3):
        assert np.array_equal(store.pixels(digest), np.asarray(_noise()))
        assert store.image(digest).size == (64, 64)
    assert store.decoded == 2
    with pytest.raises(ValueError, match="read-only"):
        store.pixels(digest)[0, 0, 0] = 1


def test_another_store_on_the_folder_checks_nothing_again(tmp_path: Path) -> None:
    encoded = _encoded(_noise())
    digest = ImageStore(tmp_path).add(encoded)
    second = ImageStore(tmp_path)
    assert second.add(encoded) == digest
    assert second.size(digest) == (64, 64)
    assert second.decoded == 0


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_size_in_the_header_is_that_of_the_pixels(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    encoded = _encoded(Image.new("RGB", (24, 8)), kind, exif=exif)
    assert size_of(encoded) == decode(encoded, "a").shape[:2]


def test_another_process_sees_the_same_pixels(tmp_path: Path) -> None:
    digest = ImageStore(tmp_path).add(_encoded(_noise(), "JPEG"))
    program = (
        "import sys, zlib; from pathlib import Path; from sailrl.data.images import ImageStore\n"
        "print(zlib.crc32(ImageStore(Path(sys.argv[1])).pixels(sys.argv[2]).tobytes()))"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path, digest], capture_output=True, text=True)
    assert done.stdout.split() == [str(zlib.crc32(ImageStore(tmp_path).pixels(digest).tobytes()))], done.stderr


def test_memory_for_pixels_is_bounded_and_the_last_used_stay(tmp_path: Path) -> None:
    """Each is 12,288 bytes, and two fit."""
    store = ImageStore(tmp_path, decoded_bytes=2 * 64 * 64 * 3)
    first, second, third = (store.add(_encoded(Image.new("RGB", (64, 64), (shade, 0, 0)))) for shade in (1, 2, 3))
    for digest in (first, second, first, third):  # the second makes room
        store.pixels(digest)
    held = store.decoded
    store.pixels(first)
    store.pixels(third)
    assert store.decoded == held
    store.pixels(second)
    assert store.decoded == held + 1


def test_an_image_larger_than_the_bound_is_used_and_not_held(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, decoded_bytes=100)
    digest = store.add(_encoded(_noise()))
    for _ in range(2):
        assert np.array_equal(store.pixels(digest), np.asarray(_noise()))
    assert store.decoded == 3


def test_a_file_that_was_changed_in_the_store_is_not_trained_on(tmp_path: Path) -> None:
    digest = ImageStore(tmp_path).add(_encoded(_noise()))
    (tmp_path / "encoded" / digest).write_bytes(_encoded(_noise(32)))
    with pytest.raises(DataError, match="is damaged"):
        ImageStore(tmp_path).pixels(digest)


def test_bytes_become_a_path_and_a_path_stays_one(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    encoded = _encoded(_noise())
    path = store.keep(encoded)
    assert Path(path).read_bytes() == encoded
    assert store.keep(path) == path
    assert store.keep("absent.png") == "absent.png"
    with pytest.raises(DataError, match="not in a format"):
        store.keep(b"no image")


def test_a_refused_image_leaves_nothing_behind(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    with pytest.raises(DataError):
        store.add(_frames("GIF"))
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_an_unknown_hash_names_store_and_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"image 0123456789ab is not in the store {tmp_path}"):
        ImageStore(tmp_path).pixels("0123456789abcdef")
