"""The shape of a model from its config alone, built on torch's meta device, where parameters take no memory."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from sailrl.errors import ConfigError
from sailrl.families import family_at
from sailrl.families.base import Part
from sailrl.plan.memory import ModelShape

_LAYER = re.compile(r".*?\.\d+(?=\.)")


def model_shape(path: str | Path, *, trust_remote_code: bool = False) -> ModelShape:
    """Reads ``config.json`` of a folder, or of a hub model that was downloaded before, and counts.

    Raises:
        ConfigError: there is no such config here, or transformers cannot make a model of it.
    """
    import torch

    try:
        family = family_at(path, local=True)
        config: Any = family.config(path, trust_remote_code=trust_remote_code, local=True)
        with torch.device("meta"):
            model: Any = family.model_class().from_config(config, trust_remote_code=trust_remote_code)
    except ConfigError:
        raise
    except Exception as error:  # transformers raises many types
        first = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"the config of {path} gives no model: {type(error).__name__}: {first}") from None
    parameters = dict(model.named_parameters())  # tied ones once
    sizes = {name: p.numel() for name, p in parameters.items()}
    parts = Counter[Part]()
    for name, size in sizes.items():
        parts[family.part(name)] += size
    embedding = model.get_input_embeddings().weight.numel()
    output = model.get_output_embeddings().weight
    head = 0 if output is model.get_input_embeddings().weight else output.numel()
    text = config.get_text_config()
    experts = int(getattr(text, "num_experts", 0) or 0)
    each = int(getattr(text, "num_experts_per_tok", 0) or 0) if experts else 0
    return ModelShape(
        name=str(path),
        decoder=parts["language_model"] - embedding - head,
        embedding=embedding,
        head=head,
        tower=parts["vision"],
        projector=parts["projector"],
        largest_layer=_largest({n: s for n, s in sizes.items() if family.part(n) == "language_model"}),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        inner=each * text.moe_intermediate_size if experts else text.intermediate_size,
        experts=experts,
        experts_per_token=each,
        heads=text.num_attention_heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        vision=family.vision_shape(config),
    )


def _largest(sizes: dict[str, int]) -> int:
    """Parameters of the largest numbered layer, ``model.layers.3``."""
    layers: Counter[str] = Counter()
    for name, size in sizes.items():
        if found := _LAYER.match(name):
            layers[found[0]] += size
    return max(layers.values(), default=0)
