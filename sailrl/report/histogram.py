"""Problems by the accuracy of the model's samples, as a picture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from sailrl.report.chart import ACCURACY, DROPPED, INK, MUTED, new_figure, style

BINS = 20
"""Most bars; more different accuracies are put into so many equal bins."""


def bars(accuracies: Mapping[str, Mapping[float, int]]) -> tuple[list[float], dict[str, list[int]], float]:
    """``(centres, {outcome: heights}, width)``: a bar per accuracy that occurs, or ``BINS`` equal ones if there are
    more.

    With 4 samples there are five: 0, 1/4, 2/4, 3/4 and 1.
    """
    exact = sorted({accuracy for found in accuracies.values() for accuracy in found})
    if len(exact) > BINS:
        exact = [index / BINS for index in range(BINS + 1)]
        accuracies = {outcome: _binned(found) for outcome, found in accuracies.items()}
    gaps = [after - before for before, after in itertools.pairwise(exact)]
    heights = {outcome: [found.get(accuracy, 0) for accuracy in exact] for outcome, found in accuracies.items()}
    return exact, heights, 0.8 * min(gaps, default=0.25)


def _binned(found: Mapping[float, int]) -> dict[float, int]:
    binned: dict[float, int] = {}
    for accuracy, count in found.items():
        place = round(accuracy * BINS) / BINS
        binned[place] = binned.get(place, 0) + count
    return binned


def draw_histogram(accuracies: Mapping[str, Mapping[float, int]], title: str, path: Path) -> Path:
    """Draws ``kept`` and ``dropped`` problems, dropped ones on top, and returns the path."""
    figure = new_figure(7, 3.6)
    axes = figure.add_subplot()
    centres, heights, width = bars(accuracies)
    axes.bar(centres, heights["kept"], width, color=ACCURACY, label="kept")
    axes.bar(centres, heights["dropped"], width, bottom=heights["kept"], color=DROPPED, label="dropped")
    for place, kept, dropped in zip(centres, heights["kept"], heights["dropped"], strict=True):
        axes.annotate(
            f"{kept + dropped:,}",
            (place, kept + dropped),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=MUTED,
            fontsize=8,
        )
    axes.set_title(title, loc="left", color=INK, fontsize=12, weight="bold")
    axes.set_xlabel("accuracy of the model's samples", color=MUTED, fontsize=9)
    axes.set_ylabel("problems", color=MUTED, fontsize=9)
    if len(centres) <= 9:
        axes.set_xticks(centres, [f"{centre:.3g}" for centre in centres])
    style(axes)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    figure.tight_layout()
    figure.savefig(path)
    return path
