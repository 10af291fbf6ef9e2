"""Pixels for the learner: every distinct image of a batch goes through the vision tower once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from sailrl.data.alignment import check_placeholders
from sailrl.data.batch import Batch
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.errors import LearnerError

CACHED_BYTES = 1 << 30
"""Memory for processed images: those of an episode are asked for again in every pass. A photograph takes 20 MB."""


class Vision:
    """Turns the image hashes of a batch into what a transformers vision-language model takes."""

    def __init__(self, processor: Processor, images: ImageStore, *, cached_bytes: int = CACHED_BYTES) -> None:
        self._processor, self._images, self._budget = processor, images, cached_bytes
        self._cache: OrderedDict[str, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self._held = 0

    def inputs(self, model: Any, batch: Batch) -> dict[str, Any]:
        """Keyword arguments for the model's forward: token types, grids, and the features of all images in order.

        The rollouts of a group share their images, so the tower runs on distinct ones only, and its features are
        repeated; gradients add up over the repetitions.

        Raises:
            LearnerError: a row's placeholders do not belong to its images, or one was sampled.
            DataError: an image is not in the store.
        """
        order = [digest for row in batch.images for digest in row]
        distinct = list(dict.fromkeys(order))
        loaded = self._load(distinct)
        self._check(batch, {digest: self._processor.features(grid) for digest, (_, grid) in loaded.items()})
        device = next(model.parameters()).device
        token_types = self._processor.image_places(batch.input_ids)
        if not order:
            return {"mm_token_type_ids": token_types.to(device)}
        features = model.get_image_features(
            torch.cat([loaded[digest][0] for digest in distinct]).to(device),
            torch.stack([loaded[digest][1] for digest in distinct]).to(device),
            return_dict=True,
        )
        where = [distinct.index(digest) for digest in order]
        features.pooler_output = [features.pooler_output[i] for i in where]
        features.deepstack_features = [[layer[i] for i in where] for layer in features.deepstack_features]
        return {
            "mm_token_type_ids": token_types.to(device),
            "image_grid_thw": torch.stack([loaded[digest][1] for digest in order]).to(device),
            "mm_encoder_outputs": {"image": features},
        }

    def _load(self, digests: Sequence[str]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        for digest in digests:
            if digest not in self._cache:
                # One at a time: resizing a whole batch of photographs at once would hold all of them as floats.
                ((pixels, grid),) = self._processor.pixels([self._images.image(digest)])
                self._cache[digest] = pixels, grid
                self._held += pixels.nbytes
            self._cache.move_to_end(digest)
        loaded = {digest: self._cache[digest] for digest in digests}
        while self._held > self._budget and self._cache:
            _, (pixels, _) = self._cache.popitem(last=False)
            self._held -= pixels.nbytes
        return loaded

    def _check(self, batch: Batch, features: dict[str, int]) -> None:
        image_id = self._processor.image_id
        assert image_id is not None  # there is no vision without images
        lengths, prompts = batch.attention_mask.sum(dim=1).tolist(), batch.prompt_lengths.tolist()
        for row, ids in enumerate(batch.input_ids.tolist()):
            counts = [features[digest] for digest in (batch.images[row] if batch.images else ())]
            fault = check_placeholders(ids[: prompts[row]], ids[prompts[row] : lengths[row]], image_id, counts)
            if fault is not None:
                raise LearnerError(
                    f"row {row} of a micro-batch: {fault}. Nothing was learned from it. "
                    "Run `sailrl check --data` on the configuration."
                )
