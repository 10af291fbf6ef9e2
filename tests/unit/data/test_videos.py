"""Videos in problem rows: what is taken, what is refused, and how frames become images with their times."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sailrl.config.schema import DataConfig
from sailrl.data.contract import BrokenRow, parse_problem
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.data.template import Template
from sailrl.data.videos import as_images, evenly
from sailrl.errors import DataError
from sailrl.types import Frame, Problem

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def _png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (84, 84), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [_png(10 * shade) for shade in range(20)]


def _video(count: int, fps: float = 2.0) -> tuple[Frame, ...]:
    return tuple(Frame(PICTURES[number], number / fps) for number in range(count))


def parsed(videos: Any, prompt: Any = "What happens?", **fields: Any) -> Problem:
    return parse_problem({"prompt": prompt, "videos": videos, **fields}, where="f.jsonl:7", need_prompt=True)


# --- rows ----------------------------------------------------------------------------------------------------------


def test_a_video_is_frames_with_times_or_frames_with_a_rate(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURES[0])
    timed = [{"image": PICTURES[0], "time_s": 0}, {"image": PICTURES[1], "time_s": 0.5}]
    assert parsed([timed]).videos == (_video(2),)
    assert parsed([{"frames": PICTURES[:2], "fps": 2}]).videos == (_video(2),)
    # As the datasets library stores images in Parquet.
    assert parsed([[{"bytes": PICTURES[0], "path": None, "time_s": 0.0}]]).videos == (_video(1),)
    row = {"prompt": "?", "videos": [{"frames": ["a.png"], "fps": 1.0}]}
    problem = parse_problem(row, where="f:1", need_prompt=True, folder=tmp_path)
    assert problem.videos == ((Frame(str(tmp_path / "a.png"), 0.0),),)
    assert parsed(None).videos == ()


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ("clip.mp4", "videos: must be a list of videos, each a list of frames, this is text"),
        ([[]], r"videos\[0\]: must be a list of frames with image and time_s, or an object with frames and fps"),
        (["clip.mp4"], r"videos\[0\]: must be a list of frames"),
        ([PICTURES[:2]], r"videos\[0\]: frame 0 needs time_s, seconds from 0 on; this is None"),
        ([{"frames": PICTURES[:2]}], r"videos\[0\]: needs fps, frames per second above 0, beside frames; this is None"),
        ([{"frames": PICTURES[:2], "fps": 0}], "above 0, beside frames; this is 0"),
        ([{"frames": [], "fps": 1}], "must be a list of frames"),
        ([[{"image": PICTURES[0], "time_s": -1}]], "frame 0 needs time_s, seconds from 0 on; this is -1"),
        ([[{"image": PICTURES[0], "time_s": float("nan")}]], "frame 0 needs time_s"),
        (
            [[{"image": PICTURES[0], "time_s": 1}, {"image": PICTURES[1], "time_s": 1}]],
            "frame 1 is at 1 s, not after frame 0 at 1 s",
        ),
        ([{"frames": [PICTURES[0], b""], "fps": 1}], r"videos\[0\] frame 1: must be a path or the bytes .* is empty"),
        ([{"frames": ["/nowhere.png"], "fps": 1}], r"videos\[0\] frame 0: there is no file /nowhere.png"),
        ([{"frames": ["http://x/a.png"], "fps": 1}], "is an address"),
    ],
)
def test_a_broken_video_is_refused_with_its_place_and_the_rule(videos: Any, message: str) -> None:
    with pytest.raises(BrokenRow) as error:
        parsed(videos)
    assert re.search(message, f"{error.value.field}: {error.value.rule}")


def test_marks_and_videos_must_be_as_many() -> None:
    video = {"frames": PICTURES[:1], "fps": 1}
    assert len(parsed([video], "Is <video> like <image>?", images=[PICTURES[1]]).videos) == 1
    with pytest.raises(BrokenRow, match=r"the prompt has 2 video marks .* but the row has 1 videos"):
        parsed([video], "Is <video> like <video>?")
    with pytest.raises(BrokenRow, match="1 video marks"):
        parsed([], "Is <video> red?")
    chat = parsed([video], [{"role": "user", "content": "Is it red?"}])  # without marks it stands in front
    assert chat.prompt == [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Is it red?"}]}]
    with pytest.raises(BrokenRow, match="a part of type video has url; it is a mark alone"):
        parsed([video], [{"role": "user", "content": [{"type": "video", "url": "x"}]}])


# --- frames --------------------------------------------------------------------------------------------------------


def test_frames_are_spread_evenly_from_the_first_to_the_last() -> None:
    times = [frame.time_s for frame in evenly(_video(20, fps=1.0), 5)]
    assert times == [0, 5, 10, 14, 19]  # 0, 4.75, 9.5, 14.25, 19: rounded, halves to even
    assert evenly(_video(3), 16) == _video(3)
    assert evenly(_video(3), 1) == _video(1)


@given(frames=st.integers(1, 20), most=st.integers(1, 20))
def test_the_frames_shown_are_in_order_distinct_and_as_many_as_allowed(frames: int, most: int) -> None:
    times = [frame.time_s for frame in evenly(_video(frames), most)]
    assert len(times) == min(frames, most)
    assert times == sorted(set(times))


def test_a_video_becomes_images_in_order_of_appearance_with_their_times() -> None:
    problem = Problem(prompt="From <image> to <image> in <video>?", images=PICTURES[5:7], videos=[_video(2)])
    flat, names = as_images(problem, 16)
    assert flat.images == (PICTURES[5], PICTURES[6], PICTURES[0], PICTURES[1])
    assert names == ["images[0]", "images[1]", "videos[0] at 0 s", "videos[0] at 0.5 s"]
    assert flat.videos == ()
    assert as_images(flat, 16)[0] is flat
    swapped, _ = as_images(Problem(prompt="<video><image>?", images=PICTURES[5:6], videos=[_video(2)]), 16)
    assert swapped.images == (PICTURES[0], PICTURES[1], PICTURES[5])


def test_another_number_of_places_than_videos_is_refused() -> None:
    for prompt in ("<video> or <video>?", [{"role": "user", "content": "none"}]):
        with pytest.raises(DataError, match="has 0 images and 1 videos, and another number of places"):
            as_images(Problem(prompt=prompt, id="q", videos=[_video(1)]), 16)


# --- prompts -------------------------------------------------------------------------------------------------------


def _template(folder: Path, tmp_path: Path, *, most_images: int | None = None, **data: Any) -> Template:
    settings = {"train": {"path": "unused.jsonl"}, "instruction": "", "max_prompt_tokens": 4096} | data
    store = ImageStore(tmp_path / "store")
    return Template(Processor(folder), store, DataConfig.model_validate(settings), images_per_prompt=most_images)


def test_a_prompt_shows_every_frame_behind_its_time(vlm_folder: Path, tmp_path: Path) -> None:
    template = _template(vlm_folder, tmp_path, frames_per_video=3)
    problem = Problem(prompt="Count.", videos=[_video(5)])
    prompt = template.render(problem)
    text = template._processor.tokenizer.decode(prompt.engine_ids)
    # Of 0, 0.5, 1, 1.5 and 2 seconds, three evenly: the first, the middle one, the last.
    assert f"<0.0 seconds>{IMAGE}<1.0 seconds>{IMAGE}<2.0 seconds>{IMAGE}Count." in text
    assert len(prompt.images) == len(set(prompt.images)) == 3
    # 84 x 84 pixels are 9 tokens; the engine's prompt has one place for each image.
    assert len(prompt.token_ids) - len(prompt.engine_ids) == 3 * 8
    assert template.text(problem) == template.text(prompt.problem)


def test_frames_count_as_images_for_the_engine_and_broken_ones_are_named(vlm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 16 images, the engine takes 8 per prompt"):
        _template(vlm_folder, tmp_path, most_images=8).render(Problem(prompt="?", id="q", videos=[_video(20)]))
    cut = (Frame(PICTURES[0], 0.0), Frame(PICTURES[1][:60], 1.5))
    with pytest.raises(DataError, match=r"problem q: videos\[0\] at 1.5 s: "):
        _template(vlm_folder, tmp_path).render(Problem(prompt="?", id="q", videos=[cut]))


def test_a_text_model_refuses_videos(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        _template(tiny_folder, tmp_path).render(Problem(prompt="?", videos=[_video(1)]))
