"""Tokenizer, tiler and chat template of SAIL-VL2 as one transformers processor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, BaseImageProcessor, BatchFeature, PreTrainedConfig, ProcessorMixin
from transformers.utils import cached_file

from sailrl.errors import ConfigError
from sailrl.families.sail_vl2 import tiles

IMAGE = "<IMG_CONTEXT>"
"""Stands for a piece of a picture; a rendered chat has one per picture."""
TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")
FOREIGN = "<|im_middle|>"
"""A mark of the template in the published tokenizer's files. It belongs to another model: this tokenizer lacks it."""
DOWNSAMPLED = 2
"""Patches along a side that become one token."""


class SailVl2ImageProcessor(BaseImageProcessor):
    """Cuts pictures into tiles; reads and writes the published ``preprocessor_config.json``."""

    model_input_names: Any = ("pixel_values", "num_patches")

    def __init__(
        self,
        image_size: int = 448,
        patch_size: int = 14,
        max_dynamic_patch: int | None = None,
        image_mean: Sequence[float] = (0.485, 0.456, 0.406),
        image_std: Sequence[float] = (0.229, 0.224, 0.225),
        **kwargs: Any,
    ) -> None:
        if kwargs.get("use_msac"):
            raise ConfigError("preprocessor_config.json has use_msac: true. Only false is known here.")
        super().__init__(**kwargs)
        self.image_size, self.patch_size, self.max_dynamic_patch = image_size, patch_size, max_dynamic_patch
        self.image_mean, self.image_std = list(image_mean), list(image_std)

    @property
    def tokens_per_tile(self) -> int:
        """Tokens that stand for one tile."""
        return (self.image_size // self.patch_size // DOWNSAMPLED) ** 2

    def most(self, pictures: int) -> int:
        """Most tiles, thumbnails apart, of each picture of a prompt with so many."""
        assert self.max_dynamic_patch is not None  # the processor has set it
        return tiles.share(pictures, self.max_dynamic_patch)

    def count(self, width: int, height: int, most: int) -> int:
        """Tiles of a picture of this size, its thumbnail included."""
        return tiles.count(width, height, most=most, side=self.image_size)

    def __call__(self, images: Any, *_: Any, max_dynamic_patch: int | None = None, **__: Any) -> Any:
        """``pixel_values`` [tiles of all, 3, side, side] float32 and ``num_patches``, the tiles of each picture.

        Args:
            images: one or several PIL pictures.
            max_dynamic_patch: most tiles of each; by default as for a prompt with so many pictures.
        """
        pictures = list(images) if isinstance(images, list | tuple) else [images]
        most = max_dynamic_patch or self.most(len(pictures))
        cut = [tiles.cut(picture, most=most, side=self.image_size) for picture in pictures]
        pixels = [tiles.normalised(each, self.image_mean, self.image_std) for each in cut]
        return BatchFeature(
            {
                "pixel_values": torch.from_numpy(np.concatenate(pixels)),
                "num_patches": torch.tensor([len(each) for each in cut]),
            }
        )


class SailVl2Processor(ProcessorMixin):
    """Tokenizer and tiler. The chat template is ours where the folder's own is missing or another model's."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """transformers would look the tiler up among its own image processors."""
        return type(argument)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> SailVl2Processor:
        path = pretrained_model_name_or_path
        tokenizer = kwargs.pop("tokenizer", None) or AutoTokenizer.from_pretrained(path, **_found(kwargs))
        image_processor = _tiler(path, _found(kwargs))
        if image_processor.max_dynamic_patch is None:
            model, _ = PreTrainedConfig.get_config_dict(path, **_found(kwargs))
            image_processor.max_dynamic_patch = model.get("max_dynamic_patch", 12)
        own = tokenizer.chat_template
        template = own if isinstance(own, str) and FOREIGN not in own else TEMPLATE
        tokenizer.chat_template = template
        return cls(image_processor, tokenizer, chat_template=template)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """The published files: those of the tokenizer with the chat template, and preprocessor_config.json."""
        self.tokenizer.save_pretrained(save_directory)
        self.image_processor.save_pretrained(save_directory)

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        return self.tokenizer.apply_chat_template(conversation, *args, **kwargs)

    def __call__(
        self, images: Any = None, text: Any = None, *, max_dynamic_patch: int | None = None, **kwargs: Any
    ) -> BatchFeature:
        """``input_ids`` of texts that have one ``<IMG_CONTEXT>`` per picture, expanded, and what the tiler returns.

        Args:
            text: one or several texts; all pictures belong to the first.
        """
        seen = self.image_processor(images, max_dynamic_patch=max_dynamic_patch) if images else BatchFeature()
        if text is None:
            return seen
        texts = [text] if isinstance(text, str) else list(text)
        lengths = [int(tile_count) * self.image_processor.tokens_per_tile for tile_count in seen.get("num_patches", ())]
        if (found := sum(each.count(IMAGE) for each in texts)) != len(lengths):
            raise ValueError(f"{len(lengths)} images and {found} places for them ({IMAGE})")
        left = iter(lengths)
        expanded = [_expand(each, left) for each in texts]
        kwargs.pop("return_tensors", None)
        return BatchFeature({**self.tokenizer(expanded, **kwargs), **seen})


def _expand(text: str, lengths: Any) -> str:
    first, *rest = text.split(IMAGE)
    return first + "".join(IMAGE * next(lengths) + part for part in rest)


def _found(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Of a call's arguments those that say where files are."""
    return {name: kwargs[name] for name in ("revision", "cache_dir", "local_files_only", "token") if name in kwargs}


def _tiler(path: Any, where: Mapping[str, Any]) -> SailVl2ImageProcessor:
    """The image processor of a model folder or hub name, by its published file."""
    file = cached_file(str(path), "preprocessor_config.json", _raise_exceptions_for_missing_entries=False, **where)
    given = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
    return SailVl2ImageProcessor(**given)
