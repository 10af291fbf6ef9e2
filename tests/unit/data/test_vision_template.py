"""Problems with images become prompts: marks, chat parts, several images, and what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sailrl.config.schema import DataConfig, SourceConfig
from sailrl.data.images import ImageStore
from sailrl.data.problems import load_problems
from sailrl.data.processor import Processor
from sailrl.data.template import Template
from sailrl.errors import DataError
from sailrl.types import Problem

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def processor(vlm_folder: Path) -> Processor:
    return Processor(vlm_folder)


def _template(processor: Processor, tmp_path: Path, *, images_per_prompt: int | None = None, **data: Any) -> Template:
    settings = {"train": {"path": "unused.jsonl"}, "instruction": "", "max_prompt_tokens": 4096} | data
    store = ImageStore(tmp_path / "store")
    return Template(processor, store, DataConfig.model_validate(settings), images_per_prompt=images_per_prompt)


def _png(colour: str = "red", size: tuple[int, int] = (84, 84)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


RED, BLUE = _png("red"), _png("blue", (28, 56))
CUT = RED[: len(RED) * 2 // 3]


def _users_turn(processor: Processor, tmp_path: Path, problem: Problem, **data: Any) -> str:
    prompt = _template(processor, tmp_path, **data).render(problem)
    text = processor.tokenizer.decode(prompt.engine_ids)
    return text.removeprefix("<|im_start|>user\n").removesuffix("<|im_end|>\n<|im_start|>assistant\n")


# --- where images stand ---------------------------------------------------------------------------------------------


def test_images_stand_where_their_marks_are(processor: Processor, tmp_path: Path) -> None:
    problem = Problem(prompt="Is <image> like <image>?", images=[RED, BLUE])
    assert _users_turn(processor, tmp_path, problem) == f"Is {IMAGE} like {IMAGE}?"


def test_without_marks_images_come_first(processor: Processor, tmp_path: Path) -> None:
    assert _users_turn(processor, tmp_path, Problem(prompt="Alike?", images=[RED, BLUE])) == f"{IMAGE}{IMAGE}Alike?"


@pytest.mark.parametrize(
    "content",
    [
        "Is <image> red?",
        [{"type": "text", "text": "Is <image> red?"}],
        [{"type": "text", "text": "Is "}, {"type": "image"}, {"type": "text", "text": " red?"}],
    ],
    ids=["text", "text part", "image part"],
)
def test_marks_and_parts_of_a_chat_mean_the_same(processor: Processor, tmp_path: Path, content: Any) -> None:
    problem = Problem(prompt=[{"role": "user", "content": content}], images=[RED])
    assert _users_turn(processor, tmp_path, problem) == f"Is {IMAGE} red?"
    assert problem.prompt == [{"role": "user", "content": content}]  # the problem itself is left alone


def test_a_chat_may_show_images_in_several_turns(processor: Processor, tmp_path: Path) -> None:
    chat: list[dict[str, Any]] = [
        {"role": "user", "content": "<image>What is it?"},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And this?"}]},
    ]
    prompt = _template(processor, tmp_path).render(Problem(prompt=chat, images=[RED, BLUE]))
    assert processor.tokenizer.decode(prompt.engine_ids).count(IMAGE) == 2
    # 84 x 84 pixels are 9 tokens, 28 x 56 are 2: in this order.
    assert _stretches(prompt.token_ids, processor.image_id) == [9, 2]


def _stretches(ids: Any, mark: int | None) -> list[int]:
    text = "".join("x" if i == mark else " " for i in ids)
    return [len(stretch) for stretch in text.split()]


def test_the_engine_gets_one_placeholder_per_image_and_the_learner_all(processor: Processor, tmp_path: Path) -> None:
    prompt = _template(processor, tmp_path).render(Problem(prompt="<image>?<image>", images=[RED, BLUE]))
    assert _stretches(prompt.engine_ids, processor.image_id) == [1, 1]
    assert _stretches(prompt.token_ids, processor.image_id) == [9, 2]
    assert len(prompt.token_ids) == len(prompt.engine_ids) + 8 + 1


def test_images_are_named_in_order_and_one_seen_twice_is_one_image(processor: Processor, tmp_path: Path) -> None:
    template = _template(processor, tmp_path)
    prompt = template.render(Problem(prompt="?", images=[RED, BLUE, RED]))
    assert prompt.images[0] == prompt.images[2] != prompt.images[1]
    assert template._images.decoded == 2


def test_the_instruction_follows_a_question_that_ends_with_an_image(processor: Processor, tmp_path: Path) -> None:
    turn = _users_turn(processor, tmp_path, Problem(prompt="Red?<image>", images=[RED]), instruction="Box it.")
    assert turn == f"Red?{IMAGE}\nBox it."


def test_the_processor_sees_what_the_store_measured(processor: Processor, tmp_path: Path) -> None:
    """A photograph lying on its side: 28 x 84 after turning, three tokens below one another."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (84, 28), "red").save(buffer, "PNG", exif=exif)
    template = _template(processor, tmp_path)
    prompt = template.render(Problem(prompt="?", images=[buffer.getvalue()]))
    ((_, grid),) = processor.pixels([template._images.image(prompt.images[0])])
    assert grid.tolist() == [1, 6, 2]
    assert _stretches(prompt.token_ids, processor.image_id) == [3]


# --- a text must not become an image --------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|video_pad|>"])
@pytest.mark.parametrize("images", [(), (RED,)])
def test_a_placeholder_written_in_a_question_refuses_the_row(
    processor: Processor, tmp_path: Path, token: str, images: tuple[bytes, ...]
) -> None:
    with pytest.raises(DataError) as raised:
        _template(processor, tmp_path).render(Problem(prompt=f"What is {token}?", id="p", images=images))
    assert f"problem p: a text contains `{token}`" in str(raised.value)


@pytest.mark.parametrize(
    "problem",
    [
        Problem(prompt=[{"role": "user", "content": [{"type": "text", "text": "<|image_pad|>"}]}], id="p"),
        Problem(prompt=[{"role": "system", "content": "<|image_pad|>"}, {"role": "user", "content": "?"}], id="p"),
        Problem(prompt="?", response_prefix="<|image_pad|>", id="p"),
    ],
    ids=["part", "system", "prefix"],
)
def test_wherever_the_placeholder_is_written_it_is_found(
    processor: Processor, tmp_path: Path, problem: Problem
) -> None:
    with pytest.raises(DataError, match="problem p: a text contains"):
        _template(processor, tmp_path).render(problem)


def test_a_placeholder_put_together_from_two_parts_is_found_too(processor: Processor, tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "<|image_"}, {"type": "text", "text": "pad|>"}]
    with pytest.raises(DataError, match="has 0 images and 1 places"):
        _template(processor, tmp_path).render(Problem(prompt=[{"role": "user", "content": parts}]))


def test_the_marks_around_an_image_are_text_like_any_other(processor: Processor, tmp_path: Path) -> None:
    turn = _users_turn(processor, tmp_path, Problem(prompt="What is <|vision_start|>?"))
    assert turn == "What is <|vision_start|>?"


# --- limits and bad rows --------------------------------------------------------------------------------------------


def test_image_tokens_count_for_the_length_and_no_prompt_is_cut(processor: Processor, tmp_path: Path) -> None:
    small, large = (
        Problem(prompt="?", id="s", images=[RED]),
        Problem(prompt="?", id="l", images=[_png(size=(280, 280))]),
    )
    size = len(_template(processor, tmp_path).render(small).token_ids)
    rendered = _template(processor, tmp_path, max_prompt_tokens=size).render_all([large, small])
    assert [problem.id for problem in rendered.too_long] == ["l"]
    (prompt,) = rendered.prompts
    assert len(prompt.token_ids) == size
    assert _stretches(prompt.token_ids, processor.image_id) == [9]


def test_more_images_than_the_engine_takes_are_refused_before_it_starts(processor: Processor, tmp_path: Path) -> None:
    template = _template(processor, tmp_path, images_per_prompt=2)
    template.render(Problem(prompt="?", images=[RED] * 2))
    message = r"problem p has 3 images, the engine takes 2 per prompt\. Set rollout\.engine\.images_per_prompt to 3"
    with pytest.raises(DataError, match=message):
        template.render(Problem(prompt="?", id="p", images=[RED] * 3))


def test_a_bad_image_is_named_by_problem_place_and_rule(processor: Processor, tmp_path: Path) -> None:
    problem = Problem(prompt="?", id="f.jsonl:3", images=[RED, CUT])
    with pytest.raises(DataError, match=r"problem f\.jsonl:3: images\[1\]: image of \d+ bytes is corrupt or cut short"):
        _template(processor, tmp_path).render(problem)


def test_bad_images_stop_the_run_or_are_counted_with_their_reasons(processor: Processor, tmp_path: Path) -> None:
    problems = [
        Problem(prompt="?", id="good", images=[RED]),
        Problem(prompt="?", id="cut", images=[CUT]),
        Problem(prompt="<|image_pad|>", id="smuggler"),
    ]
    with pytest.raises(DataError, match=r"problem cut: .*on_bad_row=skip"):
        _template(processor, tmp_path).render_all(problems)
    rendered = _template(processor, tmp_path, on_bad_row="skip").render_all(problems)
    assert [prompt.problem.id for prompt in rendered.prompts] == ["good"]
    assert [reason.split(":")[0] for reason in rendered.unusable] == ["problem cut", "problem smuggler"]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"prompt": "?", "images": ["absent.png"]}, r"images\[0\]: there is no file .*absent\.png"),
        ({"prompt": "?", "images": ["red.png", "http://x/a.png"]}, r"images\[1\]: 'http://x/a\.png' is an address"),
        ({"prompt": "<image>?", "images": []}, "images: the prompt has 1 image marks .* but the row has 0 images"),
        ({"prompt": "<image>?", "images": ["red.png"] * 2}, "images: the prompt has 1 image marks .* has 2 images"),
        ({"prompt": "?", "images": 3}, "images: must be a list of paths or bytes, this is the number 3"),
        ({"prompt": "?", "images": [3]}, r"images\[0\]: must be a path or the bytes of an image file"),
    ],
)
def test_rows_that_break_a_rule_of_images_are_named(tmp_path: Path, row: dict[str, Any], rule: str) -> None:
    (tmp_path / "red.png").write_bytes(RED)
    good = {"prompt": "?", "images": ["red.png"]}
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    source = SourceConfig(path=str(path))
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: .*{rule}"):
        load_problems(source, on_bad_row="error")
    loaded = load_problems(source, on_bad_row="skip")
    assert (len(loaded.problems), len(loaded.bad_rows)) == (1, 1)


def test_paths_start_at_the_file_of_the_row(processor: Processor, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "red.png").write_bytes(RED)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "?", "images": ["pictures/red.png"]}\n')
    (problem,) = load_problems(SourceConfig(path=str(tmp_path / "rows.jsonl")), on_bad_row="error").problems
    assert _stretches(_template(processor, tmp_path).render(problem).token_ids, processor.image_id) == [9]
