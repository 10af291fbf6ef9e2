"""The configuration of SAIL-VL2 for transformers. It is written as the published one, which other code can read."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig


class SailVitConfig(PreTrainedConfig):
    """The vision tower, SAILViT: AIMv2 without a class token, with learned positions for every patch of a tile."""

    model_type = "sailvit"
    base_config_key = "vision_config"

    hidden_size: int = 1536
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 448
    patch_size: int = 14
    rms_norm_eps: float = 1e-5
    initializer_range: float = 0.02


class Aimv2TowerConfig(SailVitConfig):
    """The same tower under the name that SAIL-VL 1.6 gives it."""

    model_type = "aimv2"


class SailVl2Config(PreTrainedConfig):
    """Tower, projector and language model; the language model's part is ``llm_config``."""

    model_type = "sailvl"
    attribute_map: ClassVar = {"text_config": "llm_config"}
    sub_configs: ClassVar[dict[str, Any]] = {"vision_config": SailVitConfig, "llm_config": AutoConfig}

    vision_config: Any = None
    llm_config: Any = None
    downsample_ratio: float = 0.5
    select_layer: int = -1
    ps_version: str = "v2"
    dynamic_image_size: bool = True
    use_thumbnail: bool = True
    pad2square: bool = False
    min_dynamic_patch: int = 1
    max_dynamic_patch: int = 12

    def __post_init__(self, **kwargs: Any) -> None:
        if not isinstance(self.vision_config, PreTrainedConfig):
            self.vision_config = self.sub_configs["vision_config"](**(self.vision_config or {}))
        if not isinstance(self.llm_config, PreTrainedConfig):
            given = dict(self.llm_config or {"model_type": "qwen3"})
            self.llm_config = CONFIG_MAPPING[given["model_type"]](**given)
        kwargs["tie_word_embeddings"] = self.llm_config.tie_word_embeddings
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As published: older transformers, which the published code needs, would take defaults for new names."""
        given = super().to_dict()
        given.pop("tie_word_embeddings", None)
        text = given["llm_config"]
        rope = text.pop("rope_parameters", None)
        if rope:
            text["rope_theta"] = rope.pop("rope_theta")
            text["rope_scaling"] = None if rope.get("rope_type", "default") == "default" else rope
        for part in (given, text, given["vision_config"]):
            if dtype := part.pop("dtype", None):
                part["torch_dtype"] = dtype
        return given

    def to_diff_dict(self) -> dict[str, Any]:
        """What config.json holds: everything, so that no default of other code takes part."""
        given = self.to_dict()
        given.pop("_name_or_path", None)
        return given


class SailVl16Config(SailVl2Config):
    """SAIL-VL 1.6, which has the ``model_type`` of another maker's models: it is never registered under that."""

    model_type = "internvl_chat"
    sub_configs: ClassVar[dict[str, Any]] = {"vision_config": Aimv2TowerConfig, "llm_config": AutoConfig}


def load(path: Any, **where: Any) -> SailVl2Config:
    """The configuration of a model folder or hub name, of either kind."""
    given, _ = PreTrainedConfig.get_config_dict(path, **where)
    kind = SailVl2Config if given["model_type"] == SailVl2Config.model_type else SailVl16Config
    return kind.from_dict(given, name_or_path=str(path))
