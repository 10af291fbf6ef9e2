"""Videos as frames: the rows' ``videos`` field, and how a video becomes images with the time written before each.

Every frame is an image of its own behind its time in words (``<1.5 seconds>``), so a video goes the proven way of
several images through engine, learner and judge, on any model that takes several images. The models' own video input,
which merges two frames into one, is not used: a video costs twice the tokens here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sailrl.data.fields import BrokenRow
from sailrl.data.messages import IMAGE_MARK, VIDEO_MARK, split_marks, with_marks
from sailrl.errors import DataError
from sailrl.types import Frame, ImageSource, Message, Part, Problem, Video


def parse_video(video: Any, read: Callable[[Any, str], ImageSource]) -> Video:
    """One entry of a row's ``videos``.

    Args:
        video: frames ``{"image": path or bytes, "time_s": seconds}`` in order, or ``{"frames": images, "fps": rate}``.
        read: checks one image, given it and its place.

    Raises:
        ValueError: the text says which rule is broken.
    """
    if isinstance(video, Mapping):
        frames, fps = video.get("frames"), video.get("fps")
        if isinstance(fps, bool) or not isinstance(fps, int | float) or not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"needs fps, frames per second above 0, beside frames; this is {fps!r}")
        times: list[Any] = [number / fps for number in range(len(frames))] if isinstance(frames, list | tuple) else []
    else:
        frames = video
        entries = video if isinstance(video, list | tuple) else []
        times = [frame.get("time_s") if isinstance(frame, Mapping) else None for frame in entries]
    if not isinstance(frames, list | tuple) or not frames:
        raise ValueError("must be a list of frames with image and time_s, or an object with frames and fps")
    for number, time in enumerate(times):
        if isinstance(time, bool) or not isinstance(time, int | float) or not (math.isfinite(time) and time >= 0):
            raise ValueError(f"frame {number} needs time_s, seconds from 0 on; this is {time!r}")
        if number and time <= times[number - 1]:
            raise ValueError(
                f"frame {number} is at {time:g} s, not after frame {number - 1} at {times[number - 1]:g} s"
            )
    images = [
        frame.get("image", frame) if isinstance(frame, Mapping) and "time_s" in frame else frame for frame in frames
    ]
    return tuple(
        Frame(read(image, f"frame {number}"), float(time))
        for number, (image, time) in enumerate(zip(images, times, strict=True))
    )


def evenly(video: Video, most: int) -> Sequence[Frame]:
    """At most ``most`` frames, evenly spread from the first to the last."""
    if len(video) <= most:
        return video
    if most == 1:
        return video[:1]
    return [video[round(number * (len(video) - 1) / (most - 1))] for number in range(most)]


def as_images(problem: Problem, most_frames: int) -> tuple[Problem, list[str]]:
    """The problem with its videos as images, in order of appearance, and the name of each image for errors.

    Raises:
        DataError: videos, or images beside them, and the places for them differ in number.
    """
    if not problem.videos:
        return problem, [f"images[{number}]" for number in range(len(problem.images))]
    images = iter([(image, f"images[{number}]") for number, image in enumerate(problem.images)])
    videos = iter(list(enumerate(problem.videos)))
    shown: list[tuple[ImageSource, str]] = []

    def filled(part: Part) -> list[Part]:
        if part["type"] == "image":
            shown.append(next(images))
        if part["type"] != "video":
            return [part]
        number, video = next(videos)
        frames = evenly(video, most_frames)
        shown.extend((frame.image, f"videos[{number}] at {frame.time_s:g} s") for frame in frames)
        pairs = [({"type": "text", "text": f"<{frame.time_s:.1f} seconds>"}, {"type": "image"}) for frame in frames]
        return [part for pair in pairs for part in pair]

    prompt: list[Message] = []
    try:
        for message in _chat(problem):
            content: list[Part] = []
            for part in split_marks(message["content"]):
                content += filled(part)
            prompt.append({**message, "content": content})
    except (StopIteration, BrokenRow):
        raise DataError(_miscounted(problem)) from None
    if next(images, None) or next(videos, None):
        raise DataError(_miscounted(problem))
    flat = replace(problem, prompt=prompt, images=tuple(image for image, _ in shown), videos=())
    return flat, [name for _, name in shown]


def _chat(problem: Problem) -> Sequence[Message]:
    """The prompt as messages; a plain text has what it does not mark in front."""
    if not isinstance(problem.prompt, str):
        return problem.prompt
    return [{"role": "user", "content": with_marks(problem.prompt, len(problem.images), len(problem.videos))}]


def _miscounted(problem: Problem) -> str:
    return (
        f"problem {problem.id} has {len(problem.images)} images and {len(problem.videos)} videos, and another number "
        f"of places for them. Write one {IMAGE_MARK} mark per image and one {VIDEO_MARK} mark per video"
    )
