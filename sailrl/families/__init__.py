"""The kinds of models, one module per family: all that is special about one is written there, and the rest of the code
asks. To add one, write its module, name it in ``FAMILIES``, and let ``tests/contract/test_families.py`` check it.

Recognising and refusing a model takes its config.json only, and loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sailrl.errors import ConfigError
from sailrl.families.base import Family
from sailrl.families.intern_vl import InternVl
from sailrl.families.qwen_vl import Qwen2Vl, Qwen3Vl, Qwen25Vl
from sailrl.families.sail_vl2.family import SailVl2
from sailrl.families.text import Text

FAMILIES: tuple[Family, ...] = (SailVl2(), Qwen3Vl(), Qwen25Vl(), Qwen2Vl(), InternVl(), Text())
"""In the order in which they are asked whether a model is theirs."""
_NOT_COMPARED = "engine and learner have not been compared on it"
UNSUPPORTED = {
    "gemma3": "the tokens of a picture attend to one another there, which the learner's attention does not do",
    **dict.fromkeys(("glm4v", "glm4v_moe", "glm46v"), _NOT_COMPARED),
    **dict.fromkeys(
        ("qwen3_5", "qwen3_5_moe"), f"its linear attention carries a state from token to token; {_NOT_COMPARED}"
    ),
    "internvl_chat": "of this kind only SAIL-VL 1.6 is; InternVL 3 is under its name that ends with -hf",
}
"""Why some kinds are not supported, by their ``model_type``."""
EXAMPLE = "Qwen/Qwen3-VL-2B-Thinking"
"""A model on the hub that messages give as an example."""
PLACEHOLDERS = ("<|image_pad|>", "<|video_pad|>", "<image>", "<video>", "<IMG_CONTEXT>")
"""Tokens that stand for pixels in one family or another; a model must never sample one."""
_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "final_logit_softcapping", "logits_soft_cap")
_BIASED = ("phi", "gptj", "codegen", "ctrl")
"""``model_type`` of models whose output layer has a bias."""
_DROPOUT = (
    *("dropout", "attention_dropout", "hidden_dropout", "activation_dropout", "residual_dropout", "embedding_dropout"),
    *("attn_pdrop", "embd_pdrop", "resid_pdrop"),
)


def supported() -> str:
    """The families, in words."""
    return ", ".join(family.title for family in FAMILIES)


def family_of(config: Mapping[str, Any]) -> Family | None:
    """The family of a model by what its config.json holds; None where it belongs to none."""
    return next((family for family in FAMILIES if family.knows(config)), None)


def family_at(path: str | Path, *, local: bool = False) -> Family:
    """The family of the model in a folder or on the hub, which transformers then knows, too.

    Args:
        local: look at files on this machine only.

    Raises:
        ConfigError: it belongs to none.
        OSError: there is no config.json.
    """
    from transformers import PreTrainedConfig

    config, _ = PreTrainedConfig.get_config_dict(str(path), local_files_only=local)
    family = family_of(config)
    if family is None:
        raise ConfigError(f"the model {path} is {refusal(config, trained=False)}")
    family.register()
    return family


def refusal(config: Mapping[str, Any], *, trained: bool) -> str | None:
    """Why a model cannot be used, in words that go on from its name; None where nothing speaks against it.

    Args:
        config: what its config.json holds.
        trained: whether the learner needs it; engines alone compute more.
    """
    kind, architectures = config.get("model_type"), config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else None
    name = f"of kind {architecture} ({kind})" if architecture else f"of kind {kind}"
    family = family_of(config)
    if family is None:
        reason = f" ({UNSUPPORTED[kind]})" if kind in UNSUPPORTED else ""
        return f"{name}: this kind of model is not supported{reason}. Supported: {supported()}."
    why = family.fault(config) or (next(_changes(family, config), None) if trained else None)
    return None if why is None else f"{name}, {why}"


def _changes(family: Family, config: Mapping[str, Any]) -> Iterator[str]:
    """What a model does beside what the learner computes: hidden states times the output layer, without chance."""
    text = family.text_config(config)
    refused = f"which the learner does not compute: this kind of model is not supported. Supported: {supported()}."
    for key in _SCALES:
        if text.get(key) not in (None, 1):
            yield f"whose logits are changed by {key}: {text[key]}, {refused}"
    if config.get("model_type") in _BIASED:
        yield f"whose output layer has a bias, {refused}"
    if quantized := config.get("quantization_config") or text.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, Mapping) else quantized
        yield f"but its weights are quantised ({method}). Take the model that they were made of."
    for key in _DROPOUT:
        if text.get(key):
            yield (
                f"whose config.json has {key}: {text[key]}, but dropout makes the learner another policy than the "
                f"engine. Write {key}: 0.0 there."
            )
