"""Bounding boxes: right when each gold box overlaps its own answered box by at least a threshold (intersection over
union). Coordinates are ``x1, y1, x2, y2`` in whatever scale the gold uses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

Box: TypeAlias = tuple[float, float, float, float]

_NUMBER = re.compile(r"(?<![A-Za-z_\d.])[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?")
_QUOTED = re.compile(r'"[^"]*"(\s*:)?')
_GROUP = re.compile(r"[\[({<]([^\[\](){}<>]*)[\])}>]")
_NOT_A_PLACE = re.compile(
    r"\b(?:score|confidence|conf|prob(?:ability)?|(?:class_?|category_?|track_?)?id|label|index)\b[\"']?\s*[:=]\s*[-+.\d]+",
    re.IGNORECASE,
)
_MAX_CHARS = 20_000
_MAX_BOXES = 50


def read_boxes(raw: object) -> list[Box] | None:
    """The boxes in ``raw`` (text, four numbers, or a list of such); None when the numbers do not come in fours."""
    if isinstance(raw, str):
        numbers = _coordinates(raw[:_MAX_CHARS])
    elif isinstance(raw, Sequence):
        numbers = []
        for item in raw:
            if isinstance(item, int | float) and not isinstance(item, bool):
                numbers.append(float(item))
            else:
                inner = read_boxes(item)
                if inner is None:
                    return None
                numbers += [x for box in inner for x in box]
    else:
        return None
    if not numbers or len(numbers) % 4 or len(numbers) > 4 * _MAX_BOXES or not all(map(math.isfinite, numbers)):
        return None
    boxes = []
    for i in range(0, len(numbers), 4):
        x1, y1, x2, y2 = numbers[i : i + 4]
        boxes.append((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
    return boxes


def _coordinates(text: str) -> list[float]:
    """The numbers of ``text`` that are coordinates. Brackets around four numbers, or around pairs ("(x1,y1),(x2,y2)"),
    mark a box; then what stands outside of them (a label, a score, the size of the image) is none. No brackets: all
    numbers."""
    unquoted = _QUOTED.sub(lambda m: m.group() if m.group(1) else " ", text)  # keys stay, values such as "car 3" go
    text = _NOT_A_PLACE.sub(" ", unquoted if _NUMBER.search(unquoted) else text)
    groups = [found for group in _GROUP.findall(text) if (found := [float(n) for n in _NUMBER.findall(group)])]
    for size in (4, 2):
        marked = [group for group in groups if len(group) == size]
        if marked and all(len(group) in {1, 2, size} for group in groups):
            return [x for group in marked for x in group]
    return [float(n) for n in _NUMBER.findall(text)]


def iou(a: Box, b: Box) -> float:
    """Intersection over union; 0 for boxes without area, unless they are the same box."""
    if a == b:
        return 1.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if math.isfinite(union) and union > 0 else 0.0


def same_boxes(gold: list[Box], answer: list[Box], threshold: float) -> bool:
    """Each gold box is met by its own answered box, best overlaps first, and no box is left over."""
    if len(gold) != len(answer):
        return False
    pairs = sorted(((iou(g, a), i, j) for i, g in enumerate(gold) for j, a in enumerate(answer)), reverse=True)
    used_gold: set[int] = set()
    used_answer: set[int] = set()
    for overlap, i, j in pairs:
        if overlap < threshold:
            break
        if i not in used_gold and j not in used_answer:
            used_gold.add(i)
            used_answer.add(j)
    return len(used_gold) == len(gold)
