"""Which kinds of models can be trained, and which engines alone can be asked, decided from config.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SEEING = ("qwen3_vl", "qwen3_vl_moe")
"""``model_type`` of vision-language models that can be trained."""
ASKED = ("qwen2_vl", "qwen2_5_vl")
"""``model_type`` of further ones that engines answer with (eval, filter)."""
TRAINABLE = "Qwen3-VL and Qwen3-VL-MoE, and causal language models of text (Qwen2, Qwen3, Qwen3-MoE, Llama, ...)"
_OTHER_SENSES = ("vision", "visual", "img_processor", "mm_", "audio", "speech", "thinker_config")
"""How keys begin that only models have which take more than text."""
_SPEAKS = ("ForCausalLM", "LMHeadModel")
"""How class names of language models end."""
_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "final_logit_softcapping", "logits_soft_cap")
_BIASED = ("phi", "gptj", "codegen", "ctrl")
"""``model_type`` of models whose output layer has a bias."""
_DROPOUT = (
    *("dropout", "attention_dropout", "hidden_dropout", "activation_dropout", "residual_dropout", "embedding_dropout"),
    *("attn_pdrop", "embd_pdrop", "resid_pdrop"),
)


def refusal(config: Mapping[str, Any], *, trained: bool) -> str | None:
    """Why a model cannot be used, in words that go on from its name; None where nothing speaks against it.

    Args:
        config: what its config.json holds.
        trained: whether the learner needs it; engines alone take more kinds.
    """
    kind, architectures = config.get("model_type"), config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else None
    name = f"of kind {architecture} ({kind})" if architecture else f"of kind {kind}"
    sees = kind in SEEING or (kind in ASKED and not trained)
    more = kind in ASKED or any(key.startswith(_OTHER_SENSES) for key, value in config.items() if value)
    speaks = not config.get("is_encoder_decoder") and (architecture or _SPEAKS[0]).endswith(_SPEAKS)
    if not sees and (more or not speaks):
        takes = f"Can be trained: {TRAINABLE}." if trained else f"Can be asked: {TRAINABLE}; Qwen2-VL and Qwen2.5-VL."
        return f"{name}: this kind of model is not supported. {takes}"
    why = next(_changes(config), None) if trained else None
    return None if why is None else f"{name}, {why}"


def _changes(config: Mapping[str, Any]) -> Iterator[str]:
    """What a model does beside what the learner computes: hidden states times the output layer, without chance."""
    text = config.get("text_config")
    text = text if isinstance(text, Mapping) else config
    refused = f"which the learner does not compute: this kind of model is not supported. Can be trained: {TRAINABLE}."
    for key in _SCALES:
        if text.get(key) not in (None, 1):
            yield f"whose logits are changed by {key}: {text[key]}, {refused}"
    if config.get("model_type") in _BIASED:
        yield f"whose output layer has a bias, {refused}"
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, Mapping) else quantized
        yield f"but its weights are quantised ({method}). Take the model that they were made of."
    for key in _DROPOUT:
        if text.get(key):
            yield (
                f"whose config.json has {key}: {text[key]}, but dropout makes the learner another policy than the "
                f"engine. Write {key}: 0.0 there."
            )
