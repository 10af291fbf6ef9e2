"""Image inputs of the learner's model: every distinct image of a batch goes through the vision tower once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

from sailrl.data.alignment import check_placeholders
from sailrl.data.batch import Batch
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.errors import LearnerError
from sailrl.families.base import Features, Picture

CACHED_BYTES = 1 << 30
"""Size of the cache of processed images: every pass over an episode needs the same ones. A photograph takes 20 MB."""


Key: TypeAlias = tuple[str, int]
"""An image, and how many there are in its prompt where that decides on its size, else 0."""


class Vision:
    """Turns the image hashes of a batch into inputs of a transformers vision-language model."""

    def __init__(self, processor: Processor, images: ImageStore, *, cached_bytes: int = CACHED_BYTES) -> None:
        self._processor, self._images, self._budget = processor, images, cached_bytes
        self._cache: OrderedDict[Key, Picture] = OrderedDict()
        self._held = 0

    def inputs(self, model: Any, batch: Batch) -> dict[str, Any]:
        """Keyword arguments for the model's forward: positions [axes, 1, N] or [1, N], which start at 0 for every
        sample, and the features of all images of the row in order.

        The tower runs on distinct images only. The features of an image that several prompts have are repeated, and
        its gradients add up.

        Raises:
            LearnerError: a sample's placeholders do not fit its images, or its response contains one.
            DataError: an image is not in the store.
        """
        keys = [self._keys(row) for row in batch.images]
        order = [key for b, row in enumerate(keys) if batch.brings(b) for key in row]
        distinct = list(dict.fromkeys(order))
        loaded = self._load(distinct)
        layouts = [[loaded[key][1] for key in row] for row in keys]
        self._check(batch, layouts)
        device = batch.input_ids.device
        positions = self._positions(model, batch, layouts).to(device)
        if not order:
            return {"position_ids": positions}
        features = self._see(model, [loaded[key] for key in distinct], device)
        seen = [features[distinct.index(key)] for key in order]
        ids = batch.input_ids[None]
        return {
            "position_ids": positions,
            **self._processor.seeing.inputs(model, ids, self._processor.image_places(ids), seen),
        }

    def _keys(self, row: Sequence[str]) -> list[Key]:
        crowd = len(row) if self._processor.crowding(len(row)) else 0
        return [(digest, crowd) for digest in row]

    def _positions(self, model: Any, batch: Batch, layouts: Sequence[list[torch.Tensor]]) -> torch.Tensor:
        """Positions: those of a prompt as the model computes them around images; those of a response, which has no
        images, continue after the highest of its prompt."""
        parts, ends = list[torch.Tensor](), dict[int, int]()
        prompts = batch.prompt_lengths.tolist()
        for b, row in enumerate(batch.input_ids.cpu().split(batch.row_lengths())):
            if batch.brings(b):
                ids = row[None, : prompts[b]]
                found = self._processor.seeing.positions(model, ids, self._processor.image_places(ids), layouts[b])
                if found is None:
                    return batch.positions()[None]
                parts.append(found)
                ends[b] = int(found.max()) + 1
            begin, count = ends[batch.brought_by[b]], batch.lengths[b] - prompts[b]
            parts.append(torch.arange(begin, begin + count).expand(len(parts[0]), 1, -1))
        return torch.cat(parts, dim=-1)

    def blank(self, model: Any, device: torch.device) -> torch.Tensor:
        """A zero computed by running the tower on a tiny black image; its gradients are 0."""
        features = self._see(model, [self._processor.blank()], device)
        return 0.0 * torch.stack([part.sum() for image in features for part in image]).sum()

    def _see(self, model: Any, pictures: Sequence[Picture], device: torch.device) -> list[Features]:
        return self._processor.seeing.see(model, [(pixels.to(device), how.to(device)) for pixels, how in pictures])

    def _load(self, keys: Sequence[Key]) -> dict[Key, Picture]:
        for key in keys:
            if key not in self._cache:
                digest, crowd = key
                # One at a time: resizing a batch of photographs at once would need memory for all of them as floats.
                ((pixels, layout),) = self._processor.pixels([self._images.image(digest)], of=crowd or 1)
                self._cache[key] = pixels, layout
                self._held += pixels.nbytes
            self._cache.move_to_end(key)
        loaded = {key: self._cache[key] for key in keys}
        while self._held > self._budget and self._cache:
            _, (pixels, _) = self._cache.popitem(last=False)
            self._held -= pixels.nbytes
        return loaded

    def _check(self, batch: Batch, layouts: Sequence[list[torch.Tensor]]) -> None:
        image_id = self._processor.image_id
        assert image_id is not None  # a Vision is made only for models with images
        row = batch.input_ids[batch.places].tolist()
        for b, (start, prompt) in enumerate(zip(batch.starts().tolist(), batch.prompt_lengths.tolist(), strict=False)):
            response = batch.response_ids[b][batch.mask[b]].tolist()
            counts = [self._processor.features(layout) for layout in layouts[b]]
            fault = check_placeholders(row[start : start + prompt], response, image_id, counts)
            if fault is not None:
                raise LearnerError(
                    f"sample {b} of a micro-batch: {fault}. Nothing was learned from it. "
                    "Run `sailrl check --data` on the configuration."
                )
