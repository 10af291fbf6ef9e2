"""Keeps evaluation problems out of training data."""

from __future__ import annotations

from collections.abc import Iterable

from data_filters.dedup import NearDuplicates
from data_filters.images import ImageIndex, difference_hash
from data_filters.reading import Row, question_key
from sailrl.types import Verdict


class Decontaminate:
    """Drops rows that are among ``evaluation`` rows. Training rows are not remembered, so their order does not matter.

    Reasons: ``leaks_exact`` (same question and images), ``leaks_near`` (nearly the same words, the same numbers,
    options and images), ``leaks_image`` (an image that looks like one of the evaluation's, whatever is asked about
    it).

    Args:
        evaluation: rows of all evaluation files.
        near: Jaccard similarity of word shingles from which a question is a leak; None compares exactly only.
        image_distance: differing bits (of 256) up to which two images look the same; None allows training on images
            of the evaluation as long as the question differs.
    """

    def __init__(self, evaluation: Iterable[Row], near: float | None = 0.7, image_distance: int | None = 4) -> None:
        self._exact: dict[str, str] = {}
        self._near = None if near is None else NearDuplicates(threshold=near)
        self._images = None if image_distance is None else ImageIndex(image_distance)
        for place, row in enumerate(evaluation):
            name = str(row.get("id") or f"#{place}")
            self._exact.setdefault(question_key(row), name)
            if self._near is not None:
                self._near.add({**row, "id": name})
            if self._images is not None:
                for image in row.get("images") or ():
                    self._images.add(difference_hash(image), name)

    def __call__(self, row: Row) -> Verdict:
        if (same := self._exact.get(question_key(row))) is not None:
            return Verdict(False, "leaks_exact", {"of": same})
        if self._near is not None and (near := self._near.find(row)) is not None:
            return Verdict(False, "leaks_near", {"of": near[0], "similarity": near[1]})
        if self._images is not None:
            for image in row.get("images") or ():
                if seen := self._images.find(difference_hash(image)):
                    return Verdict(False, "leaks_image", {"of": seen[0]})
        return Verdict(True, "kept")
