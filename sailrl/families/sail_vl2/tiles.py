"""How SAIL-VL2 cuts a picture: a grid of square tiles whose shape is nearest to the picture's, and the whole picture
once more, small, where there is more than one tile.

The rule is InternVL's ("dynamic resolution"), as the published preprocessor applies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

TILES_PER_PROMPT = 64
"""Tiles of all pictures of a prompt together, thumbnails apart: with more than six, each gets fewer than ten."""


@cache
def grids(most: int) -> tuple[tuple[int, int], ...]:
    """All (columns, rows) of at most ``most`` tiles, those of few tiles first."""
    every = [(columns, rows) for columns in range(1, most + 1) for rows in range(1, most // columns + 1)]
    return tuple(sorted(every, key=lambda grid: (grid[0] * grid[1], grid)))


def grid_of(width: int, height: int, *, most: int, side: int) -> tuple[int, int]:
    """(columns, rows) of the tiles of a picture.

    The ratio of columns to rows is the nearest to that of width to height. Of grids with one ratio it is the largest
    of which the picture has more than half of the pixels.

    Args:
        most: tiles.
        side: pixels along a tile.
    """
    wanted, nearest, best = width / height, float("inf"), (1, 1)
    for columns, rows in grids(most):
        distance = abs(wanted - columns / rows)
        fills = width * height > 0.5 * side * side * columns * rows
        if distance < nearest or (distance == nearest and fills):
            nearest, best = distance, (columns, rows)
    return best


def count(width: int, height: int, *, most: int, side: int) -> int:
    """Tiles of a picture, its thumbnail included."""
    columns, rows = grid_of(width, height, most=most, side=side)
    return columns * rows + (columns * rows > 1)


def share(pictures: int, most: int) -> int:
    """Most tiles of each picture of a prompt that has so many pictures."""
    return max(1, min(most, TILES_PER_PROMPT // max(1, pictures)))


def cut(picture: Any, *, most: int, side: int) -> list[Any]:
    """The tiles of a PIL picture, row by row, and the thumbnail last."""
    picture = picture.convert("RGB")  # before it is resized: colours of a palette and alpha do not mix
    columns, rows = grid_of(*picture.size, most=most, side=side)
    whole = _resized(picture, columns * side, rows * side)
    corners = [(column * side, row * side) for row in range(rows) for column in range(columns)]
    tiles = [whole.crop((x, y, x + side, y + side)) for x, y in corners]
    return [*tiles, _resized(picture, side, side)] if len(tiles) > 1 else tiles


def normalised(tiles: Sequence[Any], mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """[tiles, 3, side, side] float32."""
    pixels = np.stack([np.asarray(tile) for tile in tiles]).astype(np.float32) / np.float32(255)
    scaled = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _resized(picture: Any, width: int, height: int) -> Any:
    from PIL import Image

    return picture.resize((width, height), Image.Resampling.BICUBIC)
