"""A few rollouts with their images, for a run's picture and page."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sailrl.data.images import FOLDER, ImageStore
from sailrl.errors import DataError
from sailrl.report.chart import BAD, FRAME, GOOD, INK, MUTED
from sailrl.report.safe_text import safe
from sailrl.report.shown import metric
from sailrl.report.traces import ROLLOUTS_FILE, prompt_text

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

TAIL_BYTES = 8 << 20
"""How many bytes at the end of the rollouts are read: a log can be larger than memory."""
THUMBNAIL = 168
"""Longest side of an image on a page, in pixels."""
LINE, LINES, TITLE_LINES = 33, 3, 2
"""Characters on a line of the picture, and lines of a response and of a question."""
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """A group's question, its first image, and its best and worst rollout (one line if all are alike)."""

    prompt: str
    answer: str
    image: Any
    """A PIL image."""
    rollouts: Sequence[Mapping[str, Any]]
    """Lines of the log."""


def load_samples(run_dir: Path, count: int) -> list[ShownGroup]:
    """Up to ``count`` samples from the end of a run, of different questions as far as there are any; none for a run
    without images."""
    images = _store(run_dir)
    if images is None:
        return []
    found: list[ShownGroup] = []
    spare: list[ShownGroup] = []
    asked: set[str] = set()
    for group in _last_groups(run_dir / ROLLOUTS_FILE):
        first = group[0]
        prompt = prompt_text(first["prompt"])
        if prompt in asked and len(spare) >= count:
            continue
        image = load_image(images, first["image_hashes"][0])
        if image is None:
            continue
        sample = ShownGroup(prompt, str(first["answer"]), image, _best_and_worst(group))
        (spare if prompt in asked else found).append(sample)
        asked.add(prompt)
        if len(found) == count:
            break
    return (found + spare)[:count]


def thumbnails(run_dir: Path, hashes: Sequence[str]) -> str:
    """The images as HTML with their data; those that were removed are left out."""
    store = _store(run_dir) if hashes else None
    if store is None:
        return ""
    loaded = (load_image(store, digest) for digest in hashes)
    return "".join(
        f'<img alt="image {number}" src="data:image/png;base64,{_png(image)}">'
        for number, image in enumerate(loaded, start=1)
        if image is not None
    )


def load_image(store: ImageStore, digest: str) -> Any | None:
    """A small copy of an image, or None when the store has none of this name."""
    if not _HASH.fullmatch(str(digest)):  # a name from a file, which becomes part of a path
        return None
    try:
        image = store.image(digest)
    except (DataError, OSError, ValueError):
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return image


def draw_samples(figure: FigureBase, samples: Sequence[ShownGroup]) -> None:
    """Fills a figure, or a part of one, with the samples below one another."""
    figure.text(0.0, 0.93, "What it sees and says", fontsize=12, weight="bold", color=INK)
    figure.text(0.0, 0.882, "last episode, with the reward of each response", fontsize=9.5, color=MUTED)
    height = 0.8 / max(3, len(samples))
    for number, sample in enumerate(samples):
        top = 0.83 - number * height
        axes = figure.add_axes((0.0, top - 0.86 * height, 0.27, 0.86 * height))
        axes.imshow(sample.image)
        axes.set_anchor("NW")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(FRAME)
        _draw_text(figure, sample, top)


def _draw_text(figure: FigureBase, sample: ShownGroup, top: float) -> None:
    step = 0.03
    y = top - 0.005

    def write(lines: Sequence[str], color: str, weight: str = "normal") -> None:
        nonlocal y
        for line in lines:
            # Responses are full of backslashes and dollars, which are no formulas here.
            figure.text(0.3, y, line, fontsize=8, color=color, weight=weight, va="top", parse_math=False)
            y -= step

    write(_wrapped(sample.prompt, TITLE_LINES), INK, "bold")
    write(_wrapped(f"answer {sample.answer}", 1), MUTED)
    for rollout in sample.rollouts:
        right = (rollout["accuracy"] if rollout["accuracy"] is not None else rollout["reward"] or 0) >= 0.5
        write(_wrapped(f"{metric(rollout['reward'])}  {rollout['response']}", LINES), GOOD if right else BAD)


def _wrapped(text: str, lines: int) -> list[str]:
    shown = safe(text, LINE * lines)
    return textwrap.wrap(shown, LINE, max_lines=lines, placeholder="…") or [""]


def _best_and_worst(group: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    scored = sorted((line for line in group if line["reward"] is not None), key=lambda line: -line["reward"])
    if not scored:
        return [group[0]]
    return [scored[0]] if scored[0]["reward"] == scored[-1]["reward"] else [scored[0], scored[-1]]


def _last_groups(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Groups with images of the last episode that is there, those that were learned from first."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for line in _tail(path):
        if line.get("image_hashes"):
            groups.setdefault((line["episode"], line["group"]), []).append(line)
    last = max((episode for episode, _ in groups), default=0)
    yield from sorted(
        (lines for (episode, _), lines in groups.items() if episode == last), key=lambda g: not g[0]["kept"]
    )


def _tail(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = max(0, path.stat().st_size - TAIL_BYTES)
        file.seek(start)
        if start:
            file.readline()  # the rest of a line
        for line in file:
            with contextlib.suppress(ValueError):  # a broken or incomplete line is left out of the picture
                yield json.loads(line)


def _store(run_dir: Path) -> ImageStore | None:
    folder = run_dir / FOLDER
    return ImageStore(folder) if folder.is_dir() else None


def _png(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
