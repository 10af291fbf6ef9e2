import io
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from data_filters.decontaminate import Decontaminate
from data_filters.images import ImageDuplicates, ImageIndex, difference_hash
from sailrl.errors import ConfigError, DataError


def drawing(seed, size=200):
    """A white picture with five random lines: the hard case, a diagram."""
    rng = random.Random(seed)
    image = Image.new("RGB", (200, 200), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        draw.line([rng.randrange(200) for _ in range(4)], fill="black", width=4)
    return image.resize((size, size))


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def distance(left, right):
    return (difference_hash(left) ^ difference_hash(right)).bit_count()


def test_a_recompressed_copy_looks_the_same_and_another_diagram_does_not():
    for seed in range(20):
        original = encoded(drawing(seed))
        assert distance(original, encoded(drawing(seed), "JPEG", quality=70)) <= 4
        assert distance(original, encoded(drawing(seed + 100))) > 12


def test_transparency_is_white_and_a_blank_image_is_a_hash_too():
    clear = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    assert difference_hash(encoded(clear)) == difference_hash(encoded(Image.new("RGB", (50, 50), "white"))) == 0


def test_bytes_that_are_no_image_are_refused():
    with pytest.raises(DataError, match="of 7 bytes"):
        difference_hash(b"no file")


@given(st.lists(st.integers(0, 2**256 - 1), min_size=1, max_size=20), st.integers(0, 8), st.data())
def test_the_index_finds_exactly_what_comparing_with_all_finds(hashes, allowed, data):
    index = ImageIndex(allowed)
    for place, bits in enumerate(hashes):
        index.add(bits, str(place))
    flips = data.draw(st.sets(st.integers(0, 255), max_size=10))
    asked = hashes[0] ^ sum(1 << flip for flip in flips)
    assert index.find(asked) == [str(p) for p, bits in enumerate(hashes) if (bits ^ asked).bit_count() <= allowed]


def test_rows_per_image_are_limited_and_the_state_goes_through_json():
    same: list[dict[str, Any]] = [
        {"id": "a", "images": [encoded(drawing(1))]},
        {"images": [encoded(drawing(1), "JPEG")]},
    ]
    check = ImageDuplicates()
    assert [check(r).reason for r in (*same, {"images": [encoded(drawing(2))]}, {})] == [
        "kept",
        "same_image",
        "kept",
        "kept",
    ]
    again = ImageDuplicates()
    again.load_state_dict(json.loads(json.dumps(check.state_dict())))
    assert again(same[1]).evidence == {"of": "a", "rows": 1}
    assert all(map(ImageDuplicates(at_most=2), same))


def test_an_evaluation_image_leaks_whatever_is_asked_about_it():
    evaluation = [{"id": "e", "prompt": "How many lines?", "images": [encoded(drawing(1))]}]
    copy = {"prompt": "Which line is longest?", "images": [encoded(drawing(1), "JPEG")]}
    assert Decontaminate(evaluation)(copy).reason == "leaks_image"
    assert Decontaminate(evaluation, image_distance=None)(copy).keep
    assert Decontaminate(evaluation)({**copy, "images": [encoded(drawing(2))]}).keep


@pytest.mark.parametrize("make", [lambda: ImageIndex(40), lambda: ImageIndex(-1), lambda: ImageDuplicates(at_most=0)])
def test_settings_that_cannot_work_are_refused(make):
    with pytest.raises(ConfigError):
        make()
