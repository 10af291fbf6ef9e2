"""Images that look the same although their bytes differ: re-encoded, rescaled, lightly compressed copies."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

from data_filters.reading import Row, image_bytes
from sailrl.errors import ConfigError, DataError
from sailrl.types import ImageSource, Verdict

SIDE = 16
"""The hash compares SIDE x SIDE neighbouring cells: 256 bits. Line drawings collide at the usual 64."""
NOISE = 3
"""Grey levels (of 256) a cell must be darker than its right neighbour; less is compression noise on a flat ground."""


def difference_hash(image: ImageSource) -> int:
    """Difference hash: bit by bit, whether a cell of the shrunken grey image is darker than its right neighbour.

    Raises:
        DataError: the image cannot be read or decoded.
    """
    data = image_bytes(image)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            flat = Image.new("RGBA", opened.size, "white")
            flat.alpha_composite(opened.convert("RGBA"))
            cells = flat.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX).tobytes()
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        what = repr(image) if isinstance(image, str) else f"of {len(data)} bytes"
        raise DataError(
            f"image {what} cannot be decoded: {error}. Give a PNG, JPEG or another format Pillow reads."
        ) from error
    bits = 0
    for row in range(SIDE):
        start = row * (SIDE + 1)
        for left in range(start, start + SIDE):
            bits = bits << 1 | (cells[left + 1] - cells[left] >= NOISE)
    return bits


class ImageIndex:
    """Finds hashes within ``max_distance`` differing bits of a given one, without comparing with all of them.

    The 256 bits are cut into ``max_distance + 1`` bands: of two hashes that differ in fewer bits than there are
    bands, at least one band is equal (pigeonhole), so no match is missed.
    """

    def __init__(self, max_distance: int) -> None:
        if not 0 <= max_distance < 32:
            raise ConfigError(f"images: max_distance = {max_distance} bits of 256 must lie in 0..31.")
        self.max_distance = max_distance
        self.entries: list[tuple[int, str]] = []
        self._bands: list[defaultdict[int, list[int]]] = [defaultdict(list) for _ in range(max_distance + 1)]
        self._width = -(-SIDE * SIDE // (max_distance + 1))

    def _cut(self, bits: int) -> Iterable[tuple[int, int]]:
        mask = (1 << self._width) - 1
        return ((band, bits >> band * self._width & mask) for band in range(self.max_distance + 1))

    def add(self, bits: int, name: str) -> None:
        """Remembers a hash under a name."""
        for band, value in self._cut(bits):
            self._bands[band][value].append(len(self.entries))
        self.entries.append((bits, name))

    def find(self, bits: int) -> list[str]:
        """Names of all remembered hashes within the distance, in order of arrival."""
        places = {place for band, value in self._cut(bits) for place in self._bands[band].get(value, ())}
        near = (self.entries[place] for place in sorted(places))
        return [name for other, name in near if (bits ^ other).bit_count() <= self.max_distance]


class ImageDuplicates:
    """Keeps at most ``at_most`` rows per image, where images that look the same count as one.

    Several questions about one image are normal, so this limits rather than removes. A row without images is kept.
    """

    def __init__(self, at_most: int = 1, max_distance: int = 4) -> None:
        if at_most < 1:
            raise ConfigError(f"images: at_most = {at_most} must be at least 1.")
        self.at_most = at_most
        self._index = ImageIndex(max_distance)

    def __call__(self, row: Row) -> Verdict:
        hashes = [difference_hash(image) for image in row.get("images") or ()]
        for bits in hashes:
            earlier = self._index.find(bits)
            if len(earlier) >= self.at_most:
                return Verdict(False, "same_image", {"of": earlier[0], "rows": len(earlier)})
        for bits in set(hashes):
            self._index.add(bits, str(row.get("id") or f"#{len(self._index.entries)}"))
        return Verdict(True, "kept")

    def state_dict(self) -> dict[str, Any]:
        """The hashes seen, in hexadecimal, with the ids of their rows."""
        return {"hashes": [[f"{bits:x}", name] for bits, name in self._index.entries]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from ``state_dict``; the distance may be another one."""
        self._index = ImageIndex(self._index.max_distance)
        for bits, name in state["hashes"]:
            self._index.add(int(bits, 16), name)
