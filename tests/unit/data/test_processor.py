"""Placeholders: the expansion is what the model's own processor would make of the same prompt and images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sailrl.data.processor import Processor
from sailrl.errors import ConfigError, DataError

SIZES = [(84, 84), (28, 28), (56, 140), (300, 100), (1, 40), (3, 90), (700, 33), (1, 1)]
"""(height, width). Three rows of pixels look like three channels to code that guesses."""


@pytest.fixture(scope="module")
def processor(vlm_folder: Path) -> Processor:
    return Processor(vlm_folder)


def _picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def _mark(processor: Processor) -> int:
    assert processor.image_id is not None
    return processor.image_id


def _chat(processor: Processor, images: int) -> str:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "a"}]
    for _ in range(images):
        parts += [{"type": "image"}, {"type": "text", "text": "b"}]
    return processor.chat.render([{"role": "user", "content": parts}], "p")


@pytest.mark.parametrize("sizes", [[], *([size] for size in SIZES), SIZES[:2], SIZES[3:6]], ids=str)
def test_expanded_ids_are_those_of_the_models_own_processor(processor: Processor, sizes: list[tuple[int, int]]) -> None:
    text = _chat(processor, len(sizes))
    pictures = [_picture(size) for size in sizes]
    whole = processor.full(text=[text], images=pictures or None, add_special_tokens=False)
    ids = processor.expand(processor.encode(text), sizes, "p")
    assert ids == list(whole["input_ids"][0])
    grids = [grid.tolist() for _, grid in processor.pixels(pictures)] if pictures else []
    assert grids == (whole["image_grid_thw"].tolist() if pictures else [])
    counts = [processor.features(grid) for _, grid in (processor.pixels(pictures) if pictures else [])]
    assert ids.count(_mark(processor)) == sum(counts)


def test_an_image_of_84_pixels_takes_9_tokens_and_one_of_280_takes_100(processor: Processor) -> None:
    """(84 / 28)^2 = 9 and (280 / 28)^2 = 100."""
    mark = _mark(processor)
    assert processor.expand([1, mark, 2, mark], [(84, 84), (280, 280)], "p") == [1, *[mark] * 9, 2, *[mark] * 100]


@pytest.mark.parametrize(
    ("limits", "size", "tokens"),
    [
        ({"max_pixels": 4 * 28 * 28}, (280, 280), 4),  # shrunk to 2 x 2 tokens
        ({"min_pixels": 16 * 28 * 28}, (28, 28), 16),  # enlarged to 4 x 4
        ({"min_pixels": 4 * 28 * 28, "max_pixels": 9 * 28 * 28}, (56, 84), 6),  # left as it is
    ],
)
def test_pixel_limits_hold_for_tokens_and_for_pixels(
    vlm_folder: Path, limits: dict[str, int], size: tuple[int, int], tokens: int
) -> None:
    processor = Processor(vlm_folder, pixel_limits=limits)
    mark = _mark(processor)
    assert processor.expand([mark], [size], "p") == [mark] * tokens
    ((pixels, grid),) = processor.pixels([_picture(size)])
    assert processor.features(grid) == tokens
    assert len(pixels) == 4 * tokens  # 2 x 2 patches merge into a token


def test_limits_that_contradict_each_other_are_refused(vlm_folder: Path) -> None:
    """The model's own are 784 = 28 x 28 and 200,704 = (16 x 28)^2 pixels."""
    for limits in ({"min_pixels": 4000, "max_pixels": 3000}, {"max_pixels": 700}, {"min_pixels": 300_000}):
        with pytest.raises(ConfigError, match=r"data\.min_pixels is above data\.max_pixels"):
            Processor(vlm_folder, pixel_limits=limits)
    Processor(vlm_folder, pixel_limits={"min_pixels": 3000, "max_pixels": 3000})


def test_limits_stay_out_of_what_is_saved_with_the_tokenizer(vlm_folder: Path, tmp_path: Path) -> None:
    Processor(vlm_folder, pixel_limits={"max_pixels": 3000}).save(tmp_path)
    assert "max_pixels" not in (tmp_path / "tokenizer_config.json").read_text()
    assert '"longest_edge": 3000' in (tmp_path / "processor_config.json").read_text()


def test_without_the_limits_the_numbers_are_others(processor: Processor) -> None:
    mark = _mark(processor)
    assert len(processor.expand([mark], [(280, 280)], "p")) == 100
    assert len(processor.expand([mark], [(28, 28)], "p")) == 1


def test_pixels_do_not_depend_on_what_is_processed_beside_them(processor: Processor) -> None:
    pictures = [_picture(size, seed) for seed, size in enumerate([(84, 84), (56, 56), (84, 84)])]
    together = processor.pixels(pictures)
    for picture, (pixels, grid) in zip(pictures, together, strict=True):
        ((alone, alone_grid),) = processor.pixels([picture])
        assert alone.equal(pixels)
        assert alone_grid.equal(grid)
    assert not together[0][0].equal(together[2][0])


def test_placeholders_are_banned_and_the_marks_around_an_image_are_not(processor: Processor) -> None:
    ids = processor.tokenizer.convert_tokens_to_ids
    assert processor.banned_ids == sorted([ids("<|image_pad|>"), ids("<|video_pad|>")])
    assert not {ids("<|vision_start|>"), ids("<|vision_end|>")} & set(processor.banned_ids)
    assert processor.image_id == ids("<|image_pad|>")


def test_a_placeholder_that_only_the_configuration_knows_is_banned_if_it_can_be_sampled(
    vlm_folder: Path, tmp_path: Path
) -> None:
    for file in vlm_folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    pads = Processor(vlm_folder).banned_ids
    for video, banned in ((7, [*pads, 7]), (151_656, pads)):  # the second is beyond this vocabulary
        (tmp_path / "config.json").write_text(json.dumps(config | {"video_token_id": video}))
        assert Processor(tmp_path).banned_ids == banned


@pytest.mark.parametrize(("marks", "images"), [(0, 1), (1, 0), (1, 2), (3, 2)])
def test_places_and_images_must_agree_in_number(processor: Processor, marks: int, images: int) -> None:
    with pytest.raises(DataError, match=f"problem p has {images} images and {marks} places"):
        processor.expand([7] + [_mark(processor)] * marks, [(28, 28)] * images, "p")


def test_a_place_for_a_video_is_refused(processor: Processor) -> None:
    video = processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    with pytest.raises(DataError, match=r"problem p: .*`<\|video_pad\|>`"):
        processor.expand([7, video], [], "p")


def test_a_saved_processor_is_the_same_processor(processor: Processor, tmp_path: Path) -> None:
    processor.save(tmp_path)
    (tmp_path / "config.json").write_text((Path(processor.tokenizer.name_or_path) / "config.json").read_text())
    copy = Processor(tmp_path)
    text = _chat(processor, 1)
    assert copy.expand(copy.encode(text), [(300, 100)], "p") == processor.expand(
        processor.encode(text), [(300, 100)], "p"
    )
    assert copy.pixels([_picture((300, 100))])[0][0].equal(processor.pixels([_picture((300, 100))])[0][0])


def _copy(folder: Path, out: Path, *, template: str | None = None, **changed: dict[str, Any]) -> Processor:
    """A copy of a model folder without weights, in which keys of JSON files (by stem) and the template are others."""
    out.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".json":
            (out / file.name).write_text(json.dumps(json.loads(file.read_text()) | changed.get(file.stem, {})))
        elif file.suffix == ".jinja":
            (out / file.name).write_text(template or file.read_text())
    return Processor(out)


def test_the_templates_end_of_turn_ends_a_response_although_the_models_files_do_not_know_it(
    tiny_folder: Path, tmp_path: Path
) -> None:
    text = "<|endoftext|>"
    # As Qwen's base models: id 0 is <|endoftext|>, 2 is <|im_end|>.
    base: dict[str, Any] = {"config": {"eos_token_id": 0}, "generation_config": {"eos_token_id": 0}}
    processor = _copy(tiny_folder, tmp_path / "base", tokenizer_config={"eos_token": text}, **base)
    assert (processor.stop_ids, processor.end_id) == ([0, 2], 2)
    assert processor.note == (
        "the chat template ends turns with <|im_end|>, the model's own files with <|endoftext|> only: responses end at "
        "either, imitated ones with the template's"
    )


def test_where_template_and_model_agree_nothing_is_said(tiny_folder: Path, vlm_folder: Path, tmp_path: Path) -> None:
    for folder in (tiny_folder, vlm_folder):
        processor = Processor(folder)
        assert (processor.stop_ids, processor.end_id, processor.note) == ([2], 2, None)
    several = _copy(tiny_folder, tmp_path / "several", generation_config={"eos_token_id": [0, 2]})
    assert (several.stop_ids, several.end_id, several.note) == ([0, 2], 2, None)


def test_a_template_without_an_end_of_turn_leaves_the_models_own(tiny_folder: Path, tmp_path: Path) -> None:
    plain = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    processor = _copy(tiny_folder, tmp_path / "plain", template=plain)
    assert (processor.stop_ids, processor.end_id, processor.note) == ([2], 2, None)
    users_only = "{% for m in messages %}{{ m.content if m.role == 'user' else raise_exception('no') }}{% endfor %}"
    refusing = _copy(tiny_folder, tmp_path / "refusing", template=users_only)
    assert (refusing.stop_ids, refusing.end_id, refusing.note) == ([2], 2, None)


def test_a_model_in_which_nothing_ends_a_response_is_told_of(tiny_folder: Path, tmp_path: Path) -> None:
    endless: dict[str, Any] = {"config": {"eos_token_id": None}, "generation_config": {"eos_token_id": None}}
    endless["tokenizer_config"] = {"eos_token": None}
    processor = _copy(tiny_folder, tmp_path / "endless", template="{{ messages[0].content }}", **endless)
    assert (processor.stop_ids, processor.end_id) == ([], None)
    assert processor.note is not None
    assert processor.note.startswith("nothing ends a response: the tokenizer has no eos_token")
