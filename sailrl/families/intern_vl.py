"""InternVL 3 and 3.5 in the form that transformers has (``OpenGVLab/InternVL3-8B-hf``): tiles as in SAIL-VL2, a
placeholder that is expanded together with the marks around it, and positions that count tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sailrl.errors import ConfigError
from sailrl.families.base import Features, Part, Picture, SeeingFamily, VisionShape

if TYPE_CHECKING:
    from torch import Tensor


class InternVl(SeeingFamily):
    title = "InternVL 3 and 3.5 (the -hf form)"

    def knows(self, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") == "internvl"

    def part(self, name: str) -> Part:
        if ".vision_tower." in f".{name}":
            return "vision"
        return "projector" if ".multi_modal_projector." in f".{name}" else "language_model"

    def vision_shape(self, config: Any) -> VisionShape:
        tower, square = config.vision_config, round(1 / config.downsample_ratio)
        side = tower.patch_size[0]
        return VisionShape(
            layers=tower.num_hidden_layers,
            hidden=tower.hidden_size,
            inner=tower.intermediate_size,
            values_per_patch=tower.num_channels * side**2,
            patches_per_token=square**2,
            pixels_per_token=(side * square) ** 2,
            outputs=1,
            thumbnail_tokens=config.image_seq_length,
        )

    def limit(self, whole: Any, limits: Mapping[str, int]) -> None:
        tiler = whole.image_processor
        if "min_pixels" in limits:
            raise ConfigError(
                f"data.min_pixels is {limits['min_pixels']:,}, but {self.title} enlarge every picture to tiles of "
                f"{_side(whole)} x {_side(whole)} pixels. Remove it."
            )
        if "max_pixels" in limits:
            tiler.max_patches = max(1, min(tiler.max_patches, limits["max_pixels"] // _side(whole) ** 2))

    def engine_limits(self, whole: Any) -> dict[str, Any]:
        return {"max_patches": whole.image_processor.max_patches}

    def counts(self, whole: Any, sizes: Sequence[tuple[int, int]]) -> list[int]:
        tiles = whole._get_num_multimodal_tokens(image_sizes=sizes).num_image_patches
        return [int(number) * whole.image_seq_length for number in tiles]

    def filled(self, whole: Any, image_id: int, count: int) -> list[int]:
        return [whole.start_image_token_id, *[image_id] * count, whole.end_image_token_id]

    def pictures(self, whole: Any, images: Sequence[Any], **crowding: Any) -> list[Picture]:
        """Of each image ``(pixels [tiles, 3, side, side], [1] the number of tiles)``."""
        import torch

        out = whole.image_processor(images=list(images), crop_to_patches=True, return_tensors="pt")
        numbers = torch.as_tensor(out["num_patches"])
        return list(zip(out["pixel_values"].split(numbers.tolist()), numbers[:, None], strict=True))

    def blank(self, whole: Any) -> Picture:
        import torch

        return torch.zeros(1, 3, _side(whole), _side(whole)), torch.tensor([1])

    def tokens(self, whole: Any, layout: Tensor) -> int:
        return int(layout) * whole.image_seq_length

    def layouts(self, whole: Any, images: Sequence[Any], output: Mapping[str, Any]) -> list[Tensor]:
        return [layout for _, layout in self.pictures(whole, images)] if images else []  # the output has none

    def see(self, model: Any, pictures: Sequence[Picture]) -> list[Features]:
        import torch

        tiles, numbers = zip(*pictures, strict=True)
        seen = model.get_image_features(torch.cat(tiles), return_dict=True).pooler_output
        return [(part,) for part in seen.split([int(number) for number in numbers])]

    def inputs(self, model: Any, ids: Tensor, places: Tensor, seen: Sequence[Features]) -> dict[str, Any]:
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        features: Any = torch.cat([tiles for (tiles,) in seen])
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features)}}


def _side(whole: Any) -> int:
    """Pixels along a tile."""
    return int(whole.image_processor.size["height"])
