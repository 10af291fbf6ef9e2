"""A SAIL-VL2 of under a million parameters, dense or with experts, with tokenizer and tiler, built from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sailrl.demo.pictures import SIDE, rows

PATCH = 14
"""Pixels per patch side; 2 x 2 patches become one token, so a token covers 28 x 28 pixels."""
MOST_TILES = 4
SYSTEM = "你是由抖音内容理解组开发的多模态大模型，英文名叫UniVL, 是一个有用无害的人工智能助手。"
"""The default system message, which would be half of a tiny prompt in a tokenizer of bytes."""


def build(
    folder: str | Path,
    *,
    hidden_size: int = 64,
    experts: int = 0,
    seed: int = 0,
    tied: bool = False,
    release: Literal["2", "1.6"] = "2",
) -> None:
    """Writes config, tokenizer, tiler and randomly initialised weights into ``folder``, in the published form; a tile
    is as large as one of the demo's pictures.

    Args:
        experts: above 0 a MoE, top 2 of so many in every layer of the language model.
        tied: whether the output layer is the embedding.
        release: SAIL-VL2 on Qwen3, or SAIL-VL 1.6 on Qwen2.
    """
    import torch  # here, so that checking a configuration that names this function stays fast

    from sailrl.demo import tokenizer as tokens
    from sailrl.families.sail_vl2.configuration import SailVl2Config, SailVl16Config
    from sailrl.families.sail_vl2.modeling import SAILVLModel, SailVLModel, register
    from sailrl.families.sail_vl2.processing import TEMPLATE, SailVl2ImageProcessor, SailVl2Processor
    from sailrl.learner.weights import publish_layout

    register()
    corpus = (text for row in rows(300, seed=0) for text in (row["prompt"], row["meta"]["response"]))
    tokenizer = tokens.build_tokenizer(corpus, pixels=("<img>", "</img>", "<IMG_CONTEXT>"))
    tokenizer.chat_template = TEMPLATE.replace(SYSTEM, "-")
    kind = "qwen2" if release == "1.6" else "qwen3_moe" if experts else "qwen3"
    head_dim = 32  # the smallest that vLLM's CPU attention has a kernel for
    text: dict[str, Any] = {
        "model_type": kind,
        "architectures": [f"{''.join(part.capitalize() for part in kind.split('_'))}ForCausalLM"],
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "intermediate_size": 3 * hidden_size,
        "num_hidden_layers": 4,
        "num_attention_heads": hidden_size // head_dim,
        "num_key_value_heads": max(1, hidden_size // head_dim // 2),
        "head_dim": head_dim,
        "max_position_embeddings": 8192,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": tied,
        "pad_token_id": tokenizer.convert_tokens_to_ids(tokens.END_OF_TEXT),
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids(tokens.TURN_END),
    }
    if experts:
        text |= {"num_experts": experts, "num_experts_per_tok": 2, "moe_intermediate_size": 3 * hidden_size // 2}
        text |= {"norm_topk_prob": True}
    tower = {"num_hidden_layers": 3, "hidden_size": hidden_size, "intermediate_size": 2 * hidden_size}
    tower |= {"num_attention_heads": 4, "patch_size": PATCH, "image_size": SIDE}
    config = (SailVl16Config if release == "1.6" else SailVl2Config)(llm_config=text, vision_config=tower)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (SailVLModel if release == "1.6" else SAILVLModel)(config)
    publish_layout(model)
    model.save_pretrained(folder)
    tiler = SailVl2ImageProcessor(image_size=SIDE, patch_size=PATCH, max_dynamic_patch=MOST_TILES)
    SailVl2Processor(tiler, tokenizer, chat_template=tokenizer.chat_template).save_pretrained(folder)
