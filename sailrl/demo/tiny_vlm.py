"""A Qwen3-VL of under a million parameters, dense or with experts, with tokenizer and processors, built from a seed:
nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sailrl.demo.pictures import rows

PATCH, MERGE = 14, 2
"""Pixels per patch side, and patches per side that become one token: a token covers 28 x 28 pixels."""


def build(
    folder: str | Path, *, hidden_size: int = 64, experts: int = 0, seed: int = 0, max_positions: int = 8192
) -> None:
    """Writes config, tokenizer, processors and randomly initialised weights into ``folder``; ``experts`` > 0 makes it a
    MoE (top 2 of so many experts in every layer of the language model)."""
    import torch  # here, so that checking a configuration that names this function stays fast
    from transformers import (
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLMoeConfig,
        Qwen3VLMoeForConditionalGeneration,
        Qwen3VLProcessor,
    )
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    from sailrl.demo import tokenizer as tokens
    from sailrl.learner.weights import publish_layout

    tokenizer = tokens.build_tokenizer(
        text for row in rows(300, seed=0) for text in (row["prompt"], row["meta"]["response"])
    )
    ids: dict[str, Any] = {token: tokenizer.convert_tokens_to_ids(token) for token in tokens.PIXELS}
    head_dim = 32  # the smallest that vLLM's CPU attention has a kernel for
    mixture: dict[str, Any] = {
        "num_experts": experts,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 3 * hidden_size // 2,  # not hidden_size: a square matrix hides which way it lies
        "norm_topk_prob": True,  # vLLM asks for it; transformers always does it and no longer knows the key
    }
    config: Any = (Qwen3VLMoeConfig if experts else Qwen3VLConfig)(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden_size,
            "intermediate_size": 3 * hidden_size,
            "num_hidden_layers": 4,
            "num_attention_heads": hidden_size // head_dim,
            "num_key_value_heads": max(1, hidden_size // head_dim // 2),
            "head_dim": head_dim,
            "max_position_embeddings": max_positions,
            "pad_token_id": tokenizer.convert_tokens_to_ids(tokens.END_OF_TEXT),
            "bos_token_id": None,
            "eos_token_id": tokenizer.convert_tokens_to_ids(tokens.TURN_END),
            # Three position axes share the head's rotary pairs: time, height, width.
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 500_000.0,
                "mrope_section": [8, 4, 4],
                "mrope_interleaved": True,
            },
            **(mixture if experts else {}),
        },
        vision_config={
            "depth": 3,
            "hidden_size": hidden_size,
            "intermediate_size": 2 * hidden_size,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": hidden_size,
            "num_position_embeddings": 36,  # a learned 6 x 6 grid, interpolated to the image
            "deepstack_visual_indexes": [0, 1, 2],
        },
        image_token_id=ids[tokens.IMAGE],
        video_token_id=ids[tokens.VIDEO],
        vision_start_token_id=ids[tokens.VISION_START],
        vision_end_token_id=ids[tokens.VISION_END],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (Qwen3VLMoeForConditionalGeneration if experts else Qwen3VLForConditionalGeneration)(config)
    model.generation_config.eos_token_id = config.text_config.eos_token_id
    model.generation_config.pad_token_id = config.text_config.pad_token_id
    publish_layout(model)
    model.save_pretrained(folder)
    pixels = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2}
    # From one token to 16 x 16 of them; "size" counts pixels here.
    size = {"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": (PATCH * MERGE * 16) ** 2}
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels, size=size),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**pixels, size=size),
        chat_template=tokens.CHAT_TEMPLATE,
    ).save_pretrained(folder)
