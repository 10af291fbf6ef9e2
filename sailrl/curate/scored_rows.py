"""Reads files of scored responses that ``sailrl score``, a filter or an RL run wrote, and counts unusable rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sailrl.data.images import FOLDER
from sailrl.data.rows import BadRow, Row, read_rows
from sailrl.errors import DataError


class ScoredRows:
    """Iterate over it as often as needed: the rows of all files that have a prompt, a response, the named scores and
    images that are there. Paths of images come out absolute; images of an RL run are found in its store.

    ``refused`` counts the others of the last pass by reason: ``not_json`` and the like, ``no_prompt``,
    ``no_response``, ``no_scores``, ``no_image``.
    """

    def __init__(self, files: Sequence[str], scores: Sequence[str]) -> None:
        self._files = [Path(file).expanduser() for file in files]
        self._scores = [name for name in scores if name != "reward"]
        self._total = "reward" in scores
        self.seen = 0
        self.refused: Counter[str] = Counter()
        self._other_scores: set[str] = set()

    def __iter__(self) -> Iterator[Row]:
        self.seen = 0
        self.refused.clear()
        for file in self._files:
            folder = file.parent.absolute()
            for _, row in read_rows(file):
                self.seen += 1
                refusal = row.rule if isinstance(row, BadRow) else self._refusal(row, folder)
                if refusal is None and isinstance(row, dict):
                    yield row
                else:
                    self.refused[str(refusal)] += 1
        if self.refused.total() == self.seen:
            raise DataError(self._nothing_usable())

    def story(self) -> str:
        """How many rows of the last pass were usable, and why others were not, as text."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.refused.most_common())
        return f"{self.seen:,} rows, {self.refused.total():,} unusable" + (f" ({reasons})" if reasons else "")

    def _refusal(self, row: Row, folder: Path) -> str | None:
        """Why a row cannot be used; None for one that can, whose images then have their whole paths."""
        if not isinstance(row.get("prompt"), str | list) or not row["prompt"]:
            return "no_prompt"
        if not isinstance(row.get("response"), str):
            return "no_response"
        scores = row.get("scores")
        scores = scores if isinstance(scores, dict) else {}
        if not all(_has_value(scores.get(name), "value") for name in self._scores) or (
            self._total and not _has_value(row, "reward")
        ):
            self._other_scores.update(map(str, list(scores)[:20]))
            return "no_scores"
        images = _images(row, folder)
        if images:
            if not all(isinstance(image, bytes) or Path(image).is_file() for image in images):
                return "no_image"
            row["images"] = images
        return None

    def _nothing_usable(self) -> str:
        wanted = ", ".join([*self._scores, *(["reward"] if self._total else [])])
        there = ", ".join(sorted(self._other_scores)) or "none"
        names = ", ".join(map(str, self._files))
        return (
            f"{names}: no row can be used: {self.story()}. A row needs prompt, response and scores ({wanted}); the "
            f"scores found are {there}. Score the file with `sailrl score`, or name another score."
        )


def _has_value(score: Any, name: str) -> bool:
    """Whether there is a number, or null for a response that could not be scored."""
    return isinstance(score, dict) and name in score and isinstance(score[name], int | float | None)


def _images(row: Row, folder: Path) -> list[Any]:
    images = row.get("images") or [str(Path(FOLDER) / "encoded" / name) for name in row.get("image_hashes") or ()]
    plain = (image.get("bytes") or image.get("path") if isinstance(image, dict) else image for image in images)
    return [image if isinstance(image, bytes) else str(folder / str(image)) for image in plain]
