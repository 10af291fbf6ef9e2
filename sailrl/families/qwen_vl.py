"""Qwen3-VL, dense and with experts, and its forerunners Qwen2.5-VL and Qwen2-VL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sailrl.errors import ConfigError
from sailrl.families.base import Features, Part, Picture, SeeingFamily, VisionShape

if TYPE_CHECKING:
    from torch import Tensor


class QwenVl(SeeingFamily):
    """What they have in common: an image is a grid of patches, and a square of patches becomes one token."""

    kinds: tuple[str, ...]
    """Its ``model_type``: these classes are transformers' own."""

    def knows(self, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") in self.kinds

    def part(self, name: str) -> Part:
        """The projector is the tower's ``merger`` modules."""
        if ".visual." not in f".{name}":
            return "language_model"
        return "projector" if "merger" in name else "vision"

    def vision_shape(self, config: Any) -> VisionShape:
        tower = config.vision_config
        patch, merge = tower.patch_size, tower.spatial_merge_size
        return VisionShape(
            layers=tower.depth,
            hidden=tower.hidden_size,
            inner=getattr(tower, "intermediate_size", 0),
            values_per_patch=tower.in_channels * tower.temporal_patch_size * patch**2,
            patches_per_token=merge**2,
            pixels_per_token=(patch * merge) ** 2,
            outputs=1 + len(getattr(tower, "deepstack_visual_indexes", ())),
        )

    def limit(self, whole: Any, limits: Mapping[str, int]) -> None:
        # Set on the image processor alone: given to the whole processor, they would also stick to the tokenizer, and
        # every call would take them for deprecated arguments.
        size = whole.image_processor.size
        for name, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
            if name in limits:
                size[edge] = limits[name]
        if limits and size["shortest_edge"] > size["longest_edge"]:
            raise ConfigError(
                f"images would be enlarged to {size['shortest_edge']:,} pixels and shrunk to {size['longest_edge']:,}: "
                "data.min_pixels is above data.max_pixels, where null is the model's own limit. Set both."
            )

    def engine_limits(self, whole: Any) -> dict[str, Any]:
        # Both edges, even if only one is configured: vLLM replaces the processor's whole size by these.
        size = whole.image_processor.size
        return {"size": {"shortest_edge": size["shortest_edge"], "longest_edge": size["longest_edge"]}}

    def pictures(self, whole: Any, images: Sequence[Any], **crowding: Any) -> list[Picture]:
        """Of each image ``(pixels [patches, dim], grid [3] = frames, rows, columns of patches)``."""
        out = whole.image_processor(images=list(images), return_tensors="pt")
        grids = out["image_grid_thw"]
        return list(zip(out["pixel_values"].split(grids.prod(dim=1).tolist()), grids, strict=True))

    def blank(self, whole: Any) -> Picture:
        import torch

        kind = whole.image_processor
        side, depth = kind.merge_size, 3 * kind.temporal_patch_size * kind.patch_size**2
        return torch.zeros(side**2, depth), torch.tensor([1, side, side])

    def tokens(self, whole: Any, layout: Tensor) -> int:
        return int(layout.prod()) // whole.image_processor.merge_size**2

    def layouts(self, whole: Any, images: Sequence[Any], output: Mapping[str, Any]) -> list[Tensor]:
        import torch

        return list(torch.as_tensor(output["image_grid_thw"])) if "image_grid_thw" in output else []

    def positions(self, model: Any, ids: Tensor, places: Tensor, layouts: Sequence[Tensor]) -> Tensor:
        """Three axes, time, height and width: tokens of an image share a time."""
        import torch

        grids = torch.stack(list(layouts)) if layouts else None
        found, _ = model.base_model.get_rope_index(ids, mm_token_type_ids=places, image_grid_thw=grids)
        return found

    def see(self, model: Any, pictures: Sequence[Picture]) -> list[Features]:
        """The tower's output, and behind it what it hands to single layers of the language model (deepstack)."""
        import torch

        pixels, grids = zip(*pictures, strict=True)
        out = model.get_image_features(torch.cat(pixels), torch.stack(grids), return_dict=True)
        return list(zip(out.pooler_output, *(getattr(out, "deepstack_features", None) or ()), strict=True))

    def inputs(self, model: Any, ids: Tensor, places: Tensor, seen: Sequence[Features]) -> dict[str, Any]:
        from transformers.models.qwen3_vl import modeling_qwen3_vl

        module: Any = modeling_qwen3_vl  # its output is annotated as one tensor, and is a list
        first, *levels = (list(level) for level in zip(*seen, strict=True))
        output = module.BaseModelOutputWithDeepstackFeatures(pooler_output=first, deepstack_features=levels)
        return {"mm_encoder_outputs": {"image": output}}


class Qwen3Vl(QwenVl):
    title = "Qwen3-VL and Qwen3-VL-MoE"
    kinds = ("qwen3_vl", "qwen3_vl_moe")


class Qwen25Vl(QwenVl):
    title = "Qwen2.5-VL"
    kinds = ("qwen2_5_vl",)


class Qwen2Vl(QwenVl):
    title = "Qwen2-VL"
    kinds = ("qwen2_vl",)

    def vision_shape(self, config: Any) -> VisionShape:
        tower = config.vision_config  # its hidden_size is the language model's
        return replace(super().vision_shape(config), hidden=tower.embed_dim, inner=tower.mlp_ratio * tower.embed_dim)
