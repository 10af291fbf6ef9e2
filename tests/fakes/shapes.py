"""Shape facts of the recipe's models, as their config.json has them, written as transformers configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SAIL_VL2_2B = Path(__file__).resolve().parents[1] / "data" / "sail_vl2" / "2b"
"""A folder with the published config.json of SAIL-VL2-2B."""

_TOWER = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16}
_TOWER |= {"spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 2304}
_ROPE = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
_TEXT = {"vocab_size": 151936, "head_dim": 128, "max_position_embeddings": 262144, "rope_parameters": _ROPE}


def write_config(name: str, folder: Path) -> Path:
    """Writes config.json of Qwen3-VL ``2b``, ``8b`` or ``30b-a3b`` into ``folder``; returns it."""
    from transformers import Qwen3VLConfig, Qwen3VLMoeConfig

    tower: dict[str, Any] = dict(_TOWER)
    text: dict[str, Any] = dict(_TEXT)
    match name:
        case "2b":
            kind: Any = Qwen3VLConfig
            text |= {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28}
            text |= {"num_attention_heads": 16, "num_key_value_heads": 8}
            tower |= {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096}
            tower |= {"deepstack_visual_indexes": [5, 11, 17]}
        case "8b":
            kind = Qwen3VLConfig
            text |= {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36}
            text |= {"num_attention_heads": 32, "num_key_value_heads": 8}
        case _:
            kind = Qwen3VLMoeConfig
            text |= {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48}
            text |= {"num_attention_heads": 32, "num_key_value_heads": 4, "decoder_sparse_step": 1}
            text |= {"moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8}
    tower |= {"out_hidden_size": text["hidden_size"]}
    tower.setdefault("deepstack_visual_indexes", [8, 16, 24])
    config = kind(text_config=text, vision_config=tower, tie_word_embeddings=name == "2b")
    config.save_pretrained(folder)
    return folder


def sail_vl2_8b(folder: Path) -> Path:
    """Writes config.json of SAIL-VL2-8B, the 2B's on Qwen3-8B, into ``folder``; returns it."""
    config = json.loads((SAIL_VL2_2B / "config.json").read_text())
    config["llm_config"] |= {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36}
    config["llm_config"] |= {"num_attention_heads": 32, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
