"""The shape of a model from its config alone, built on torch's meta device, where parameters take no memory."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from sailrl.errors import ConfigError
from sailrl.plan.memory import ModelShape, VisionShape

_LAYER = re.compile(r".*?\.\d+(?=\.)")


def model_shape(path: str | Path, *, trust_remote_code: bool = False) -> ModelShape:
    """Reads ``config.json`` of a folder, or of a hub model that was downloaded before, and counts.

    Raises:
        ConfigError: there is no such config here, or transformers cannot make a model of it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    try:
        config: Any = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code, local_files_only=True)
        auto = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
        with torch.device("meta"):
            model: Any = auto.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many types
        first = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"the config of {path} gives no model: {type(error).__name__}: {first}") from None
    parameters = dict(model.named_parameters())  # tied ones once
    sizes = {name: p.numel() for name, p in parameters.items()}
    tower = {name: size for name, size in sizes.items() if ".visual." in name}
    projector = sum(size for name, size in tower.items() if "merger" in name)
    embedding = model.get_input_embeddings().weight.numel()
    output = model.get_output_embeddings().weight
    head = 0 if output is model.get_input_embeddings().weight else output.numel()
    text = config.get_text_config()
    experts = int(getattr(text, "num_experts", 0) or 0)
    each = int(getattr(text, "num_experts_per_tok", 0) or 0) if experts else 0
    return ModelShape(
        name=str(path),
        decoder=sum(sizes.values()) - sum(tower.values()) - embedding - head,
        embedding=embedding,
        head=head,
        tower=sum(tower.values()) - projector,
        projector=projector,
        largest_layer=_largest({n: s for n, s in sizes.items() if n not in tower}),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        inner=each * text.moe_intermediate_size if experts else text.intermediate_size,
        experts=experts,
        experts_per_token=each,
        heads=text.num_attention_heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        vision=_vision(config.vision_config) if tower else None,
    )


def _vision(config: Any) -> VisionShape:
    patch, merge = config.patch_size, config.spatial_merge_size
    return VisionShape(
        layers=config.depth,
        hidden=config.hidden_size,
        inner=config.intermediate_size,
        values_per_patch=config.in_channels * config.temporal_patch_size * patch**2,
        patches_per_token=merge**2,
        pixels_per_token=(patch * merge) ** 2,
        outputs=1 + len(getattr(config, "deepstack_visual_indexes", ())),
    )


def _largest(sizes: dict[str, int]) -> int:
    """Parameters of the largest numbered layer, ``model.layers.3``."""
    layers: Counter[str] = Counter()
    for name, size in sizes.items():
        if found := _LAYER.match(name):
            layers[found[0]] += size
    return max(layers.values(), default=0)
