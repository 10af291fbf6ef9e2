"""Do image placeholders and image features belong together? Plain lists in, the first fault out; no model needed.

The learner asks it of every batch, ``sailrl check --data`` of every problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "sampled placeholder", "double expansion", "cut image", "pixel budget", "image count", "ids", "counts", "positions"
]


@dataclass(frozen=True, slots=True)
class PromptFault:
    """What is wrong with a row."""

    kind: FaultKind
    detail: str
    """The numbers on both sides."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class View:
    """A prompt as one part of the system sees it."""

    name: str
    """Of that part, for faults."""
    ids: Sequence[int]
    """[P] with all placeholders."""
    counts: Sequence[int]
    """Placeholders of each image, in order."""
    positions: Sequence[Sequence[int]] | None = None
    """[axes][P] positions for the rotary embedding; None where this part cannot say."""


def runs(ids: Sequence[int], image_id: int) -> list[tuple[int, int]]:
    """``(start, length)`` of every stretch of placeholders."""
    found: list[tuple[int, int]] = []
    for place, token in enumerate(ids):
        if token != image_id:
            continue
        if found and sum(found[-1]) == place:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((place, 1))
    return found


def check_placeholders(
    prompt_ids: Sequence[int], response_ids: Sequence[int], image_id: int, features: Sequence[int]
) -> PromptFault | None:
    """Compares the placeholders of a row with the features of its images.

    Args:
        features: how many each image of the prompt gives, in order.

    Returns:
        The fault, or None when every image fills its own places and the response has none.
    """
    sampled = next((place for place, token in enumerate(response_ids) if token == image_id), None)
    if sampled is not None:
        detail = f"token {sampled} of the response is {image_id}, the image placeholder"
        return PromptFault("sampled placeholder", detail)
    found = [length for _, length in runs(prompt_ids, image_id)]
    if _fill(found, features):
        return None
    places, wanted = sum(found), sum(features)
    ends_inside = bool(found) and prompt_ids[-1] == image_id
    numbers = f"{places} image placeholders in the prompt and {wanted} features of {len(features)} images"
    if len(found) == len(features):
        image = next(i for i, (length, count) in enumerate(zip(found, features, strict=True)) if length != count)
        have, want = found[image], features[image]
        numbers = f"image {image} has {have} placeholders and {want} features ({numbers})"
        if ends_inside and image == len(found) - 1 and have < want:
            return PromptFault("cut image", f"{numbers}; the prompt ends inside the image")
        # Each of n placeholders replaced by n, or the first of n replaced where one was expected.
        if want > 1 and have in (want * want, 2 * want - 1):
            return PromptFault("double expansion", f"{numbers}; expanded placeholders were expanded again")
        return PromptFault("pixel budget", f"{numbers}; min_pixels or max_pixels differ, or the image was resized")
    if ends_inside and len(found) < len(features):
        return PromptFault("cut image", f"{numbers}; the prompt ends inside image {len(found) - 1}")
    return PromptFault("image count", f"{numbers}, in {len(found)} places")


def _fill(found: Sequence[int], features: Sequence[int]) -> bool:
    """Whether the images fill the stretches exactly, in order; images may follow one another without a gap."""
    rest = iter(features)
    for length in found:
        while length > 0:
            length -= next(rest, length + 1)
        if length:
            return False
    return next(rest, None) is None


def compare(mine: View, other: View) -> PromptFault | None:
    """The first difference between two views of one prompt."""
    if list(mine.counts) != list(other.counts):
        return PromptFault(
            "counts", f"tokens per image are {list(mine.counts)} for {mine.name}, {list(other.counts)} for {other.name}"
        )
    if list(mine.ids) != list(other.ids):
        return PromptFault("ids", f"{_first_difference(mine.ids, other.ids, 'token')} ({mine.name}, {other.name})")
    if mine.positions is None or other.positions is None:
        return None
    for axis, (a, b) in enumerate(zip(mine.positions, other.positions, strict=True)):
        if list(a) != list(b):
            where = _first_difference(a, b, "position")
            return PromptFault("positions", f"{where} on axis {axis} ({mine.name}, {other.name})")
    return None


def _first_difference(mine: Sequence[int], other: Sequence[int], what: str) -> str:
    place = next((i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b), min(len(mine), len(other)))
    pair = [str(values[place]) if place < len(values) else "missing" for values in (mine, other)]
    return f"{what} {place} of {len(mine)} and {len(other)} is {pair[0]} and {pair[1]}"
