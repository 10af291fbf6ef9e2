"""Small drawn pictures with questions about them: red discs to count, two-digit numbers to read, bars to compare."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from typing import Any, Literal

CELL = 28  # pixels that the tiny model sees as one token
SIDE = 3 * CELL
RED, BLUE, INK, PAPER = (230, 40, 40), (40, 80, 230), (255, 255, 255), (122, 117, 104)
Kind = Literal["discs", "digits", "bars"]

# Seven-segment strokes of each digit, by name: top, middle, bottom, and the left and right uprights above and below.
_SEGMENTS = {
    "0": "t b ul ur ll lr", "1": "ur lr", "2": "t ur m ll b", "3": "t ur m lr b", "4": "ul ur m lr",
    "5": "t ul m lr b", "6": "t ul m ll lr b", "7": "t ur lr", "8": "t m b ul ur ll lr", "9": "t m b ul ur lr",
}  # fmt: skip
_STROKES = {
    "t": (0, 0, 1, 0), "m": (0, 1, 1, 1), "b": (0, 2, 1, 2),
    "ul": (0, 0, 0, 1), "ll": (0, 1, 0, 2), "ur": (1, 0, 1, 1), "lr": (1, 1, 1, 2),
}  # fmt: skip


def rows(
    count: int,
    seed: int,
    split: Literal["train", "eval"] = "train",
    kinds: tuple[Kind, ...] = ("discs", "digits", "bars"),
    blank: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yields ``count`` problems with one picture each and a response to imitate under ``meta.response``.

    Args:
        split: the two draw from different random streams; pictures have so much freedom that none comes twice.
        blank: hand out empty pictures with the same questions and answers, to show what can be done without looking.
    """
    draw = random.Random(f"{split}-{seed}")
    for number in range(count):
        kind = kinds[number % len(kinds)]
        picture, prompt, answer, response = _DRAWN[kind](draw)
        yield {
            "id": f"{split}-{seed}-{number}",
            "prompt": prompt,
            "answer": answer,
            "images": [_png(_paper() if blank else picture)],
            "task": "count" if kind == "discs" else "math",
            "meta": {"kind": kind, "response": response},
        }


def _paper() -> Any:
    from PIL import Image

    return Image.new("RGB", (SIDE, SIDE), PAPER)


def _discs(draw: random.Random) -> tuple[Any, str, str, str]:
    from PIL import ImageDraw

    picture, cell = _paper(), CELL
    pen = ImageDraw.Draw(picture)
    lines = []
    for row in range(3):
        colours = [draw.choice("rb-") for _ in range(3)]
        for column, colour in enumerate(colours):
            if colour != "-":
                x, y, r = column * cell + cell // 2, row * cell + cell // 2, draw.randint(8, 11)
                pen.ellipse((x - r, y - r, x + r, y + r), fill=RED if colour == "r" else BLUE)
        lines.append(colours.count("r"))
    total = sum(lines)
    response = f"<think>{lines[0]}+{lines[1]}+{lines[2]}</think>\\boxed{{{total}}}"
    return picture, "red discs?", str(total), response


def _digits(draw: random.Random) -> tuple[Any, str, str, str]:
    from PIL import ImageDraw

    picture, number = _paper(), str(draw.randint(10, 99))
    pen = ImageDraw.Draw(picture)
    top = CELL + 3
    for place, digit in enumerate(number):
        left = place * CELL + 8
        for name in _SEGMENTS[digit].split():
            x0, y0, x1, y1 = _STROKES[name]
            pen.line((left + 12 * x0, top + 10 * y0, left + 12 * x1, top + 10 * y1), fill=INK, width=4)
    return picture, "number?", number, f"<think>tens, ones</think>\\boxed{{{number}}}"


def _bars(draw: random.Random) -> tuple[Any, str, str, str]:
    from PIL import ImageDraw

    picture = _paper()
    pen = ImageDraw.Draw(picture)
    left, right = draw.sample(range(1, 10), 2)
    for x, height, colour in ((14, left, RED), (48, right, BLUE)):
        pen.rectangle((x, SIDE - 4 - 8 * height, x + 20, SIDE - 4), fill=colour)
    answer = "red" if left > right else "blue"
    return picture, "higher bar?", answer, f"<think>{left} {right}</think>\\boxed{{{answer}}}"


def _png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


_DRAWN: dict[Kind, Callable[[random.Random], tuple[Any, str, str, str]]] = {
    "discs": _discs,
    "digits": _digits,
    "bars": _bars,
}
