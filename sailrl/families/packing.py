"""Which language models can compute several samples in one row."""

from __future__ import annotations

from typing import Any

PACKABLE = (
    *("llama", "mistral", "qwen2", "qwen3", "qwen3_moe"),
    *("qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text"),
)
"""Model types of language models in which tokens interact in causal attention only, all through transformers' attention
interface; each is tested. In others (windows, state spaces, custom attention) samples would see each other."""


def packs(text: Any) -> bool:
    """Whether a language model can be given several samples in one row; one at a time where it cannot.

    Args:
        text: transformers' configuration of the language model.
    """
    layers = getattr(text, "layer_types", None)  # where there are none, a window is every layer's
    windows = getattr(text, "sliding_window", None) if layers is None else {"full_attention"} != set(layers)
    return text.model_type in PACKABLE and not windows


def unpacked_note(text: Any) -> str:
    """What it costs that a language model cannot be packed, in one line."""
    return (
        f"this {text.model_type} model cannot be packed: the learner takes one response at a time and computes its "
        "prompt each time, so it learns more slowly. Packed are, where no layer attends to a window: "
        f"{', '.join(PACKABLE)}"
    )
