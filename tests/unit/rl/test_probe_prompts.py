"""Engines and learner are compared on few tokens, through every part of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sailrl.config.schema import DataConfig, SourceConfig
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.data.template import Template
from sailrl.plan.memory import PROBE_TOKENS
from sailrl.rl.probe_prompts import EACH, probe_prompts
from sailrl.types import Problem, Prompt


def asked(folder: Path, work: Path, texts: list[str], images: int = 0) -> tuple[list[Prompt], Processor]:
    processor = Processor(folder)
    data = DataConfig(train=SourceConfig(path="unused"), instruction="")
    template = Template(processor, ImageStore(work / "images"), data)
    draw = np.random.default_rng(0)
    prompts = []
    for number, text in enumerate(texts):
        files = []
        for image in range(images):
            path = work / f"{number}-{image}.png"
            Image.fromarray(draw.integers(0, 255, (280, 280, 3), dtype=np.uint8)).save(path)
            files.append(str(path))
        prompts.append(template.render(Problem(prompt="<image>" * images + text, images=files, id=str(number))))
    return probe_prompts(prompts, template, processor), processor


@pytest.mark.parametrize("words", [1, 40, 400])
def test_long_texts_are_cut_and_together_they_are_a_few_hundred_tokens(
    tiny_folder: Path, tmp_path: Path, words: int
) -> None:
    chosen, _ = asked(tiny_folder, tmp_path, ["one two three " * words] * 40)
    lengths = [len(prompt.token_ids) for prompt in chosen]
    assert chosen
    assert max(lengths) <= EACH
    assert sum(lengths) <= PROBE_TOKENS
    assert all(prompt.token_ids == prompt.engine_ids and not prompt.images for prompt in chosen)


def test_prompts_of_a_few_tokens_and_prompts_that_begin_alike_give_different_pieces(
    tiny_folder: Path, tmp_path: Path
) -> None:
    short, _ = asked(tiny_folder, tmp_path / "short", [""] * 3)
    assert short
    assert all(len(prompt.token_ids) > 1 for prompt in short)
    alike, _ = asked(tiny_folder, tmp_path / "alike", [f"{'the same ' * 20} {n}" for n in range(9)])
    assert len({tuple(prompt.token_ids) for prompt in alike}) == len(alike) > 1


def test_no_piece_is_longer_than_the_longest_prompt(tiny_folder: Path, tmp_path: Path) -> None:
    """An engine takes no more tokens than its prompts and responses have."""
    texts = ["1 + 2", "3 + 4 + 5"] * 20
    chosen, processor = asked(tiny_folder, tmp_path, texts)
    data = DataConfig(train=SourceConfig(path="unused"), instruction="")
    template = Template(processor, ImageStore(tmp_path / "images"), data)
    longest = max(len(template.render(Problem(prompt=text, id="x")).token_ids) for text in texts)
    assert max(len(prompt.token_ids) for prompt in chosen) == longest < EACH


def test_where_there_are_images_a_small_picture_goes_through_the_tower(vlm_folder: Path, tmp_path: Path) -> None:
    chosen, processor = asked(vlm_folder, tmp_path, ["what is it? " * 5] * 10, images=2)
    picture, *texts = chosen
    assert len(picture.images) == 1
    assert processor.image_id in picture.token_ids
    assert texts  # a vision-language model reads plain text, too: what stands behind the pictures
    for prompt in texts:
        assert prompt.token_ids == prompt.engine_ids
        assert not set(prompt.token_ids) & {processor.image_id, *processor.banned_ids}
    # 280 x 280 pixels are 100 tokens in this model: two of them in every prompt would be 2,000.
    assert sum(len(prompt.token_ids) for prompt in chosen) <= PROBE_TOKENS


def test_without_images_a_vision_language_model_is_asked_plain_text(vlm_folder: Path, tmp_path: Path) -> None:
    chosen, _ = asked(vlm_folder, tmp_path, ["what is it?"] * 3)
    assert [prompt.images for prompt in chosen] == [()] * 3
