"""The picture of a run: its curves and some rollouts with their images, as one PNG in the run folder."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sailrl.errors import DataError
from sailrl.report.chart import (
    ACCURACY,
    CLIP_HIGH,
    CLIP_LOW,
    ENTROPY,
    HELD_OUT,
    INK,
    LENGTH,
    MUTED,
    REWARD,
    new_figure,
    style,
)
from sailrl.report.run_data import RunData, Series, load_run
from sailrl.report.safe_text import safe
from sailrl.report.samples import draw_samples, load_samples
from sailrl.report.shown import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

PICTURE_FILE = "curve.png"

CURVES_WIDTH, SAMPLES_WIDTH = 11, 4.2
"""Inches."""
SAMPLES = 3
CLIMB_MARGIN = 1.1
"""Room for the last number at the right of the large plot, as a factor on the number of updates."""
HEADROOM = 1.1
SMOOTHING = 0.12
"""Share of the run that a smoothed line averages over."""


def curve_png(run_dir: Path, *, out: Path | None = None) -> Path:
    """Draws the curves of a run to ``<run_dir>/curve.png`` (or ``out``) and returns the path.

    Raises:
        DataError: the folder has no metrics yet.
    """
    run = load_run(run_dir)
    if not run.updates and not run.evals:
        raise DataError(f"{run_dir} has no metrics to draw: no update has finished yet.")
    samples = load_samples(run_dir, SAMPLES)
    figure = new_figure(CURVES_WIDTH + (SAMPLES_WIDTH if samples else 0), 5.6)
    if samples:
        parts: Any = figure.subfigures(1, 2, width_ratios=(CURVES_WIDTH, SAMPLES_WIDTH))
        draw_curves(parts[0], run)
        draw_samples(parts[1], samples)
    else:
        draw_curves(figure, run)
    path = out or run_dir / PICTURE_FILE
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a response may use letters that the font lacks
        figure.savefig(path)
    return path


def draw_curves(figure: FigureBase, run: RunData) -> None:
    """Fills a figure, or a part of one: reward and accuracy on the left, length, entropy and clipping on the right."""
    grid = figure.add_gridspec(
        3, 2, width_ratios=(2.1, 1), left=0.065, right=0.975, top=0.81, bottom=0.1, wspace=0.17, hspace=0.5
    )
    _title(figure, run)
    large = figure.add_subplot(grid[:, 0])
    small = [figure.add_subplot(grid[row, 1]) for row in range(3)]
    if run.supervised:
        _line(large, run.series("nll"), ACCURACY, "loss (nats per response token)", width=2)
        _line(small[0], run.series("learning_rate"), LENGTH, "learning rate")
        _line(small[1], run.series("grad_norm"), ENTROPY, "gradient norm")
        _line(small[2], run.series("tokens/trained_per_s"), CLIP_HIGH, "response tokens per second")
    else:
        _climb(large, run)
        _line(small[0], run.series("response_tokens/mean"), LENGTH, "response length (tokens)")
        _line(small[1], run.series("entropy"), ENTROPY, "entropy (nats per token)")
        _clipping(small[2], run)
    for axes in (large, *small):
        _style(axes)
        margin = CLIMB_MARGIN if axes is large else 1.02
        axes.set_xlim(0, margin * max(1, run.last_step))
    for axes in small[1:]:
        axes.set_ylim(0, HEADROOM * axes.dataLim.y1 if axes.dataLim.y1 > 0 else 1)
    for axes in small[:-1]:
        axes.tick_params(labelbottom=False)
    for axes in (large, small[-1]):
        axes.set_xlabel("step" if run.supervised else "update", color=MUTED, fontsize=9)


def _title(figure: FigureBase, run: RunData) -> None:
    # The name is the user's: a dollar sign in it is no formula.
    name = safe(run.name, 70)
    figure.text(0.065, 0.93, name, fontsize=15, weight="bold", color=INK, parse_math=False)
    figure.text(0.065, 0.882, run.headline, fontsize=10.5, color=MUTED, parse_math=False)


def _climb(axes: Axes, run: RunData) -> None:
    reward, accuracy, held_out = (run.series(key) for key in ("reward/mean", "accuracy", "eval/accuracy"))
    _line(axes, reward, REWARD, "reward, mean", width=1.4)
    _line(axes, accuracy, ACCURACY, "accuracy, sampled", width=2)
    if held_out.values:
        axes.plot(
            held_out.steps,
            held_out.values,
            color=HELD_OUT,
            marker="o",
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=1.2,
            linewidth=1.6,
            label="accuracy, held out",
            zorder=5,
            clip_on=False,
        )
        for place in sorted({0, len(held_out.values) - 1}):
            _annotate(axes, held_out.steps[place], held_out.values[place], first=place == 0)
    drawn = [*reward.values, *accuracy.values, *held_out.values]
    axes.set_ylim(min([0.0, *drawn]), max([1.0, *drawn]) * 1.02)
    axes.set_title("")
    if drawn:
        axes.legend(loc="upper left", frameon=False, fontsize=9, labelcolor=INK, ncols=3, bbox_to_anchor=(-0.01, 1.075))


def _annotate(axes: Axes, step: int, value: float, *, first: bool) -> None:
    # The last stands in the margin; the first below its point, or above it where the axis is too near.
    below = value > 0.1
    axes.annotate(
        percent(value),
        (step, value),
        xytext=((10, -4) if below else (2, 10)) if first else (10, 0),
        textcoords="offset points",
        ha="left",
        va=("top" if below else "bottom") if first else "center",
        color=HELD_OUT,
        fontsize=12,
        weight="bold",
        zorder=6,
        annotation_clip=False,
    )


def _clipping(axes: Axes, run: RunData) -> None:
    low, high = run.series("clip/low_fraction"), run.series("clip/high_fraction")
    _line(axes, _percent(low), CLIP_LOW, "low")
    _line(axes, _percent(high), CLIP_HIGH, "high")
    axes.set_title("clipped tokens (%)")
    if low.values or high.values:
        axes.legend(
            loc="upper right", frameon=False, fontsize=8, labelcolor=MUTED, ncols=2, bbox_to_anchor=(1.02, 1.32)
        )


def _percent(series: Series) -> Series:
    return Series(series.steps, [100 * value for value in series.values])


def _line(axes: Axes, series: Series, color: str, label: str, *, width: float = 1.6) -> None:
    """The values as a faint line and their moving average as a strong one."""
    axes.set_title(label)
    if not series.values:
        return
    window = max(1, round(SMOOTHING * len(series.values)))
    marker = "o" if len(series.values) == 1 else None
    if window > 1:
        axes.plot(series.steps, series.values, color=color, alpha=0.28, linewidth=0.9)
    axes.plot(series.steps, smooth(series.values, window), color=color, linewidth=width, label=label, marker=marker)


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean over the ``window`` values around each; fewer at both ends, where a window would reach past the run."""
    before, after = window // 2, (window + 1) // 2
    slices = (values[max(0, i - before) : i + after] for i in range(len(values)))
    return [sum(part) / len(part) for part in slices]


def _style(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    style(axes)
    axes.title.set(color=INK, fontsize=9.5, horizontalalignment="left", position=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
