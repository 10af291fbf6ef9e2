"""A Qwen3 of under a million parameters, dense or with experts, built from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sailrl.demo.additions import rows


def build(
    folder: str | Path,
    *,
    hidden_size: int = 128,
    layers: int = 4,
    experts: int = 0,
    tie_embeddings: bool = False,
    seed: int = 0,
) -> None:
    """Writes config, tokenizer and randomly initialised weights into ``folder``; ``experts`` > 0 makes it a MoE
    (top 2 of so many experts in every layer)."""
    import torch  # here, so that checking a configuration that names this function stays fast
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    from sailrl.demo.tokenizer import END_OF_TEXT, TURN_END, build_tokenizer

    tokenizer = build_tokenizer(text for row in rows(500, seed=0) for text in (row["prompt"], row["meta"]["response"]))
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "intermediate_size": 3 * hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden_size // 32,
        "num_key_value_heads": max(1, hidden_size // 64),
        "head_dim": 32,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": tie_embeddings,
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids(TURN_END),
        "pad_token_id": tokenizer.convert_tokens_to_ids(END_OF_TEXT),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if experts:
            model: Any = Qwen3MoeForCausalLM(
                Qwen3MoeConfig(
                    **common,
                    num_experts=experts,
                    num_experts_per_tok=2,
                    moe_intermediate_size=hidden_size,
                    norm_topk_prob=True,
                )
            )
        else:
            model = Qwen3ForCausalLM(Qwen3Config(**common))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
