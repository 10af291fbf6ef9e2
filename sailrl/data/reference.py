"""What the model's own code makes of a prompt: transformers' processor and position ids, from config files alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sailrl.data.alignment import View
from sailrl.data.processor import Processor


class Reference:
    """Views of prompts, for ``sailrl check --data``.

    Args:
        path: model folder or hub name; its weights are not looked at.
    """

    def __init__(self, path: str | Path, processor: Processor, *, trust_remote_code: bool = False) -> None:
        from transformers import AutoConfig, AutoModelForImageTextToText

        self._processor, self._full = processor, processor.full
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        with torch.device("meta"):  # the shape of the model without its weights: positions need its code only
            model: Any = AutoModelForImageTextToText.from_config(config, trust_remote_code=trust_remote_code)
        self._rope_index = getattr(model.base_model, "get_rope_index", None)

    def learner(self, token_ids: Sequence[int], images: Sequence[Any]) -> View:
        """A prompt as the learner trains on it: our ids, the grids of the very pixels, positions from the model."""
        grids = [grid for _, grid in self._processor.pixels(images)] if images else []
        return self._view("the learner", list(token_ids), grids)

    def transformers(self, text: str, images: Sequence[Any]) -> View:
        """The same prompt through the model's processor as a whole, from its text."""
        out = self._full(text=[text], images=list(images) or None, add_special_tokens=False)
        grids = list(torch.as_tensor(out["image_grid_thw"])) if images else []
        return self._view("transformers", list(out["input_ids"][0]), grids)

    def _view(self, name: str, ids: list[int], grids: list[torch.Tensor]) -> View:
        counts = [self._processor.features(grid) for grid in grids]
        if self._rope_index is None or sum(counts) != sum(i == self._processor.image_id for i in ids):
            return View(name, ids, counts)  # positions of a broken prompt are not defined
        row = torch.tensor([ids])
        stacked = torch.stack(grids) if grids else None
        kinds = self._processor.image_places(row)
        positions, _ = self._rope_index(row, mm_token_type_ids=kinds, image_grid_thw=stacked)
        return View(name, ids, counts, positions[:, 0].tolist())
