"""The style of all pictures: colours, figures and axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, FRAME = "#1f2933", "#6b7785", "#e4e8ec", "#cfd6dd"
ACCURACY, HELD_OUT, REWARD, DROPPED = "#2f6fb0", "#d1495b", "#8d99a6", "#c3cad2"
LENGTH, ENTROPY, CLIP_HIGH, CLIP_LOW = "#3c8d5a", "#7b5ea7", "#d98032", "#9aa5b1"
GOOD, BAD = "#2c7a4b", "#b23a48"


def new_figure(width: float, height: float) -> Figure:
    """A white figure of this size in inches, without pyplot, which would need a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes) -> None:
    """Faint horizontal lines, and no frame but the line at the bottom."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=8.5, length=0)
