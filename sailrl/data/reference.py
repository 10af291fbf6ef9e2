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
        self._processor, self._family = processor, processor.seeing
        config = self._family.config(path, trust_remote_code=trust_remote_code)
        with torch.device("meta"):  # the shape of the model without its weights: positions need its code only
            self._model: Any = self._family.model_class().from_config(config, trust_remote_code=trust_remote_code)

    def learner(self, token_ids: Sequence[int], images: Sequence[Any]) -> View:
        """A prompt as the learner trains on it: our ids, the layout of the very pixels, positions from the model."""
        layouts = [layout for _, layout in self._processor.pixels(images)] if images else []
        return self._view("the learner", list(token_ids), layouts)

    def transformers(self, text: str, images: Sequence[Any]) -> View:
        """The same prompt through the model's processor as a whole, from its text."""
        out = self._processor.full(text=[text], images=list(images) or None, add_special_tokens=False)
        return self._view(
            "transformers", list(out["input_ids"][0]), self._family.layouts(self._processor.full, images, out)
        )

    def _view(self, name: str, ids: list[int], layouts: list[torch.Tensor]) -> View:
        counts = [self._processor.features(layout) for layout in layouts]
        if sum(counts) != sum(i == self._processor.image_id for i in ids):
            return View(name, ids, counts)  # positions of a broken prompt are not defined
        row = torch.tensor([ids])
        positions = self._family.positions(self._model, row, self._processor.image_places(row), layouts)
        return View(name, ids, counts, None if positions is None else positions[:, 0].tolist())
