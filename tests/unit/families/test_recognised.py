"""Models that cannot be trained are known by their config.json, and those that can are let through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sailrl.families import refusal, supported

TRAINED: list[dict[str, Any]] = [
    {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "attention_dropout": 0.0},
    {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"]},
    {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "final_logit_softcapping": None},
    {"model_type": "granite", "architectures": ["GraniteForCausalLM"], "logits_scaling": 1.0},
    {"model_type": "qwen2_vl", "architectures": ["Qwen2VLForConditionalGeneration"], "vision_config": {"depth": 32}},
    {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "vision_config": {"a": 1}},
    {"model_type": "internvl", "architectures": ["InternVLForConditionalGeneration"], "vision_config": {"a": 1}},
    {"model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"], "vision_config": {"depth": 27}},
    {"model_type": "qwen3_vl_moe", "architectures": ["Qwen3VLMoeForConditionalGeneration"], "vision_config": {"a": 1}},
    {"model_type": "mistral"},
    {},
]
SEEING: list[dict[str, Any]] = [
    {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "vision_config": {"a": 1}},
    {"model_type": "llava_qwen", "architectures": ["LlavaQwenForCausalLM"], "mm_vision_tower": "siglip"},
    {"model_type": "internvl_chat", "architectures": ["InternVLChatModel"], "vision_config": {"a": 1}},
    {"model_type": "sailvl", "architectures": ["SAILVLModel"], "vision_config": {"a": 1}},
    {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {"a": 1}},
    {"model_type": "phi3_v", "architectures": ["Phi3VForCausalLM"], "img_processor": {"a": 1}},
    {"model_type": "qwen", "architectures": ["QWenLMHeadModel"], "visual": {"a": 1}},
    {"model_type": "qwen2_audio", "architectures": ["Qwen2AudioForConditionalGeneration"], "audio_config": {"a": 1}},
    {"model_type": "qwen2_5_omni", "architectures": ["Qwen2_5OmniModel"], "thinker_config": {"a": 1}},
]
OTHER: list[dict[str, Any]] = [
    {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
    {"model_type": "bart", "architectures": ["BartForCausalLM"], "is_encoder_decoder": True},
    {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
    {"model_type": "qwen3", "architectures": ["Qwen3ForSequenceClassification"]},
    {"model_type": "qwen3", "architectures": ["Qwen3Model"]},
]
CHANGED: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "gemma2", "final_logit_softcapping": 30.0}, "whose logits are changed by final_logit_softcapping"),
    ({"model_type": "cohere", "logit_scale": 0.0625}, "whose logits are changed by logit_scale: 0.0625"),
    ({"model_type": "granite", "logits_scaling": 8.0}, "whose logits are changed by logits_scaling"),
    ({"model_type": "falcon_h1", "lm_head_multiplier": 0.04}, "whose logits are changed by lm_head_multiplier"),
    ({"model_type": "phi"}, "whose output layer has a bias"),
    ({"model_type": "gpt2", "attn_pdrop": 0.1}, "Write attn_pdrop: 0.0 there."),
    ({"model_type": "qwen3_vl", "text_config": {"attention_dropout": 0.1}}, "Write attention_dropout: 0.0 there."),
    ({"model_type": "qwen3", "quantization_config": {"quant_method": "fp8"}}, "its weights are quantised (fp8)"),
    ({"model_type": "qwen3_vl", "text_config": {"quantization_config": {"quant_method": "awq"}}}, "quantised (awq)"),
    ({"model_type": "sailvl", "llm_config": {"quantization_config": {"quant_method": "gptq"}}}, "quantised (gptq)"),
]


@pytest.mark.parametrize("config", TRAINED, ids=str)
def test_what_can_be_trained_is_let_through(config: dict[str, Any]) -> None:
    assert refusal(config, trained=True) is None
    assert refusal(config, trained=False) is None


@pytest.mark.parametrize("config", SEEING + OTHER, ids=lambda config: config["architectures"][0])
def test_other_kinds_are_refused_and_told_what_is_supported(config: dict[str, Any]) -> None:
    for trained in (True, False):
        said = refusal(config, trained=trained)
        assert said is not None
        assert said.startswith(f"of kind {config['architectures'][0]} ({config['model_type']}): this kind of model")
        assert supported() in said


def test_a_kind_that_was_looked_at_and_cannot_be_right_is_refused_with_the_reason() -> None:
    said = refusal({"model_type": "gemma3", "vision_config": {"a": 1}}, trained=True)
    assert said == (
        "of kind gemma3: this kind of model is not supported (the tokens of a picture attend to one another there, "
        f"which the learner's attention does not do). Supported: {supported()}."
    )


@pytest.mark.parametrize(("config", "words"), CHANGED, ids=lambda given: given if isinstance(given, str) else "")
def test_what_the_learner_would_compute_otherwise_is_not_trained(config: dict[str, Any], words: str) -> None:
    said = refusal(config, trained=True)
    assert said is not None
    assert words in said
    assert refusal(config, trained=False) is None  # an engine computes it whole


def test_kinds_of_transformers_whose_logits_are_not_head_times_hidden_states_are_known(tmp_path: Path) -> None:
    """A model of every kind in the list, built: what is refused computes something else, and what is not does not."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    size = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    size |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 32}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    ids = torch.arange(3, 13)[None]
    for kind in ("llama", "qwen2", "qwen3", "mistral", "gemma2", "cohere", "phi", "nanochat"):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **size, **special))
        with torch.no_grad():
            for parameter in model.parameters():  # biases start at zero
                parameter.add_(torch.randn_like(parameter))
            hidden = model.base_model(input_ids=ids).last_hidden_state
            mine = (hidden @ model.get_output_embeddings().weight.T).log_softmax(-1)
            same = torch.allclose(mine, model(ids).logits.log_softmax(-1), atol=1e-4)
        model.config.save_pretrained(tmp_path / kind)
        config = json.loads((tmp_path / kind / "config.json").read_text())
        assert (refusal(config, trained=True) is None) == same, kind
