"""What is special about SAIL-VL2 and SAIL-VL 1.6, for the rest of the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sailrl.errors import ConfigError
from sailrl.families.base import Features, Part, Picture, SeeingFamily, VisionShape

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {"sailvl": "sailvit", "internvl_chat": "aimv2"}
"""The ``model_type`` of a model, and that of its tower: 2.x and 1.6. The second is another maker's name, too."""
ARCHITECTURES = {"sailvl": "SAILVLModel", "internvl_chat": "SailVLModel"}
EXPECTED: dict[str, Any] = {
    "select_layer": -1,
    "ps_version": "v2",
    "downsample_ratio": 0.5,
    "dynamic_image_size": True,
    "use_thumbnail": True,
    "pad2square": False,
}
"""What all public checkpoints have. The published code has other defaults for some, so each must be there."""
CONFIG_FORMAT = "sail_vl"
"""vLLM's name for our reading of a config.json."""


class SailVl2(SeeingFamily):
    """Recognised by architecture and tower."""

    title = "SAIL-VL2 and SAIL-VL 1.6"

    def knows(self, config: Mapping[str, Any]) -> bool:
        kind, architectures, tower = (config.get(key) for key in ("model_type", "architectures", "vision_config"))
        if kind not in KINDS or (isinstance(tower, Mapping) and tower.get("model_type") != KINDS[kind]):
            return False
        return kind == "sailvl" or architectures == [ARCHITECTURES[kind]]

    def text_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        text = config.get("llm_config")
        return text if isinstance(text, Mapping) else config

    def fault(self, config: Mapping[str, Any]) -> str | None:
        if "vision_config" not in config:
            return None
        for key, value in EXPECTED.items():
            if config.get(key) != value:
                return f"whose config.json has {key}: {config.get(key)}. Only {value} is known here."
        return None

    def register(self) -> None:
        from transformers import AutoProcessor

        from sailrl.families.sail_vl2 import modeling
        from sailrl.families.sail_vl2.configuration import SailVl2Config
        from sailrl.families.sail_vl2.processing import SailVl2Processor

        modeling.register()
        AutoProcessor.register(SailVl2Config, SailVl2Processor, exist_ok=True)

    def config(self, path: Any, *, trust_remote_code: bool = False, local: bool = False) -> Any:
        from sailrl.families.sail_vl2.configuration import load

        return load(path, local_files_only=local)

    def processor_class(self) -> Any:
        from sailrl.families.sail_vl2.processing import SailVl2Processor

        return SailVl2Processor

    def part(self, name: str) -> Part:
        if ".vision_model." in f".{name}":
            return "vision"
        return "projector" if ".mlp1." in f".{name}" else "language_model"

    def vision_shape(self, config: Any) -> VisionShape:
        tower, square = config.vision_config, round(1 / config.downsample_ratio)
        return VisionShape(
            layers=tower.num_hidden_layers,
            hidden=tower.hidden_size,
            inner=tower.intermediate_size,
            values_per_patch=tower.num_channels * tower.patch_size**2,
            patches_per_token=square**2,
            pixels_per_token=(tower.patch_size * square) ** 2,
            outputs=1,
            thumbnail_tokens=(tower.image_size // tower.patch_size // square) ** 2,
        )

    def image_id(self, config: Any, whole: Any) -> int:
        from sailrl.families.sail_vl2.processing import IMAGE

        return int(whole.tokenizer.convert_tokens_to_ids(IMAGE))

    def limit(self, whole: Any, limits: Mapping[str, int]) -> None:
        tiler = whole.image_processor
        if "min_pixels" in limits:
            raise ConfigError(
                f"data.min_pixels is {limits['min_pixels']:,}, but {self.title} enlarge every picture to tiles of "
                f"{tiler.image_size} x {tiler.image_size} pixels. Remove it."
            )
        if "max_pixels" in limits:
            tiler.max_dynamic_patch = max(1, min(tiler.max_dynamic_patch, limits["max_pixels"] // tiler.image_size**2))

    def engine_limits(self, whole: Any) -> dict[str, Any]:
        return {"max_dynamic_patch": whole.image_processor.max_dynamic_patch}

    def engine_options(self, config: Any) -> dict[str, Any]:
        return {} if config.model_type == "sailvl" else {"config_format": CONFIG_FORMAT}

    def crowding(self, whole: Any, pictures: int) -> dict[str, Any]:
        most = whole.image_processor.most(pictures)
        return {} if most == whole.image_processor.max_dynamic_patch else {"max_dynamic_patch": most}

    def counts(self, whole: Any, sizes: Sequence[tuple[int, int]]) -> list[int]:
        tiler = whole.image_processor
        most = tiler.most(len(sizes))
        return [tiler.count(width, height, most) * tiler.tokens_per_tile for height, width in sizes]

    def pictures(self, whole: Any, images: Sequence[Any], **options: Any) -> list[Picture]:
        """Of each image ``(pixels [tiles, 3, side, side], [1] the number of tiles)``."""
        out = whole.image_processor(list(images), **options)
        numbers = out["num_patches"]
        return list(zip(out["pixel_values"].split(numbers.tolist()), numbers[:, None], strict=True))

    def blank(self, whole: Any) -> Picture:
        import torch

        side = whole.image_processor.image_size
        return torch.zeros(1, 3, side, side), torch.tensor([1])

    def tokens(self, whole: Any, layout: Tensor) -> int:
        return int(layout) * whole.image_processor.tokens_per_tile

    def layouts(self, whole: Any, images: Sequence[Any], output: Mapping[str, Any]) -> list[Tensor]:
        return list(output["num_patches"][:, None]) if "num_patches" in output else []

    def see(self, model: Any, pictures: Sequence[Picture]) -> list[Features]:
        import torch

        tiles, numbers = zip(*pictures, strict=True)
        seen = model.get_image_features(torch.cat(tiles))
        return [(part.flatten(0, 1),) for part in seen.split([int(number) for number in numbers])]

    def inputs(self, model: Any, ids: Tensor, places: Tensor, seen: Sequence[Features]) -> dict[str, Any]:
        import torch

        return {"image_features": torch.cat([features for (features,) in seen]), "image_places": places}
