"""A toy of every family: its real architecture from a configuration, small, with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sailrl.demo import tiny_sail_vl2, tiny_text, tiny_vlm
from sailrl.families import family_at
from sailrl.learner.weights import publish_layout

Build = Callable[[Path], None]


def text(config: str, **changes: Any) -> Build:
    """A language model of a kind that transformers has, under the tokenizer of the demo."""

    def build(folder: Path) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        tiny_text.build(folder, hidden_size=64, layers=1)  # its tokenizer stays
        tokenizer = AutoTokenizer.from_pretrained(folder)
        size: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 160}
        size |= {"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
        size |= {"max_position_embeddings": 2048, "tie_word_embeddings": False, "bos_token_id": None}
        size |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.for_model(config, **(size | changes))).save_pretrained(folder)

    return build


TOYS: dict[str, Build] = {
    "SAIL-VL2": tiny_sail_vl2.build,
    "Qwen3-VL": tiny_vlm.build,
    "SAIL-VL2, tied": partial(tiny_sail_vl2.build, tied=True),
    "SAIL-VL2-A3B": partial(tiny_sail_vl2.build, experts=4),
    "SAIL-VL 1.6": partial(tiny_sail_vl2.build, release="1.6"),
    "Qwen3-VL-MoE": partial(tiny_vlm.build, experts=4),
    "Qwen3": partial(tiny_text.build, hidden_size=64),
    "Qwen3-MoE": partial(tiny_text.build, hidden_size=64, experts=4),
    "Qwen2": text("qwen2"),
    "Llama": text("llama"),
    "Mistral": text("mistral", sliding_window=None),
    "Mistral, windows": text("mistral", sliding_window=16),
}
BAD_SAMPLING = {"do_sample": True, "top_k": 1, "top_p": 0.1, "temperature": 0.2, "repetition_penalty": 3.0}
"""What a checkpoint may ask for in its generation_config.json, and what must not change how responses are drawn."""
SECOND_END = 40
"""A second id that ends a turn, by the same file."""
IN_CI = ("SAIL-VL2", "Qwen3-VL")
"""The toys that every change is checked with; all of them in the long tests."""


def build_toy(name: str, folder: Path) -> Path:
    """Writes a toy into ``folder`` and returns it. Its weights are larger than at an initialisation: at that, a model
    hardly says anything, and one with a fault would say the same."""
    TOYS[name](folder)
    family = family_at(folder)
    model = family.model_class().from_pretrained(folder, config=family.config(folder), dtype=torch.float32)
    publish_layout(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() >= 2 else 1.0)
    model.save_pretrained(folder)
    ends = [model.config.get_text_config().eos_token_id, SECOND_END]
    (folder / "generation_config.json").write_text(json.dumps(BAD_SAMPLING | {"eos_token_id": ends}))
    return folder
