"""Pixels for the learner: every distinct image of a batch goes through the vision tower once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from sailrl.data.batch import Batch
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.errors import LearnerError

CACHED_IMAGES = 512
"""Processed images kept in memory: those of an episode are asked for again in every pass."""


class Vision:
    """Turns the image hashes of a batch into what a transformers vision-language model takes."""

    def __init__(self, processor: Processor, images: ImageStore) -> None:
        self._processor, self._images = processor, images
        self._cache: OrderedDict[str, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()

    def inputs(self, model: Any, batch: Batch) -> dict[str, Any]:
        """Keyword arguments for the model's forward: token types, grids, and the features of all images in order.

        The rollouts of a group share their images, so the tower runs on distinct ones only, and its features are
        repeated; gradients add up over the repetitions.

        Raises:
            LearnerError: a row's placeholders and image features differ in number.
        """
        token_types = self._processor.image_places(batch.input_ids)
        order = [digest for row in batch.images for digest in row]
        if not order:
            return {"mm_token_type_ids": token_types}
        distinct = list(dict.fromkeys(order))
        loaded = self._load(distinct)
        self._check(batch, token_types, {digest: grid for digest, (_, grid) in loaded.items()})
        device = next(model.parameters()).device
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
        new = [digest for digest in digests if digest not in self._cache]
        if new:
            made = self._processor.pixels([self._images.image(digest) for digest in new])
            self._cache.update(zip(new, made, strict=True))
        loaded = {}
        for digest in digests:
            self._cache.move_to_end(digest)
            loaded[digest] = self._cache[digest]
        while len(self._cache) > CACHED_IMAGES:
            self._cache.popitem(last=False)
        return loaded

    def _check(self, batch: Batch, token_types: torch.Tensor, grids: dict[str, torch.Tensor]) -> None:
        places = token_types.sum(dim=1).tolist()
        for row, digests in enumerate(batch.images):
            features = sum(self._processor.features(grids[digest]) for digest in digests)
            if places[row] != features:
                raise LearnerError(
                    f"row {row} of a micro-batch has {places[row]} image placeholders and {features} image features. "
                    "The prompt was expanded with other pixel limits or cut inside an image, or a placeholder was "
                    "sampled. Run `sailrl check --data` on the configuration."
                )
