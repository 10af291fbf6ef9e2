"""Attention over a packed row: every sample attends to itself alone, and nothing is computed between samples.

A dense mask would do the same and cost the square of the row: at 16,384 tokens a gigabyte per head in float32. On GPUs
in half precision this is FlashAttention's variable-length kernel as torch brings it; elsewhere the row is cut at its
samples and each goes through torch's causal attention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from sailrl.data.batch import Batch

NAME = "sailrl_packed"
"""Under which transformers finds ``attend``."""
PACKABLE = ("llama", "qwen2", "qwen3", "qwen3_moe", "qwen3_vl_text", "qwen3_vl_moe_text")
"""Language models in which tokens meet in causal attention only, all of it through transformers' interface: tested one
by one. In others (windows, state spaces, attention code of their own) samples would leak into one another."""


def use_packed(model: Any) -> bool:
    """Makes ``model`` attend within samples where it can be packed, and says whether it can.

    A model that cannot keeps its own attention, and must be given one sample at a time.
    """
    text = model.config.get_text_config()
    windows = {"full_attention"} != set(getattr(text, "layer_types", None) or ["full_attention"])
    if text.model_type not in PACKABLE or windows:
        return False
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME if text is model.config else {"text_config": NAME})
    return True


def bounds(batch: Batch) -> dict[str, Any]:
    """Where the samples of a row begin and end, under transformers' names for it."""
    starts, longest = batch.starts(), max(batch.lengths)
    return {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sample, as transformers calls it.

    Args:
        query, key, value: [1, heads, N, D]; key and value may have fewer heads.
        attention_mask: None; transformers makes no mask for attention that it does not know.
        cu_seq_lens_q: [B + 1] int32, where each sample starts, and N.
        max_length_q: tokens of the longest sample.

    Returns:
        [1, N, heads, D], and None for the weights.
    """
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    if query.is_cuda and dtype != torch.float32 and not dropout:
        q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))  # [N, heads, D]
        starts, longest, causal = cu_seq_lens_q, max_length_q, (-1, 0)
        out = varlen_attn(q, k, v, starts, starts, longest, longest, scale=scaling, window_size=causal, enable_gqa=True)
        assert isinstance(out, Tensor)  # nothing but the output was asked for
        return out[None], None
    lengths = cu_seq_lens_q.diff().tolist()
    parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    alone = [
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
        )
        for q, k, v in parts
    ]
    return torch.cat(alone, dim=2).transpose(1, 2), None
