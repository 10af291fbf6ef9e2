"""Attention over a packed row: every sample attends to itself alone, and nothing is computed between samples.

A prompt that several samples share lies in the row once, and all of them attend to it.

A dense mask would do the same and cost the square of the row: at 16,384 tokens a gigabyte per head in float32. On GPUs
in half precision this is FlashAttention's variable-length kernel as torch brings it; elsewhere the row is cut at its
samples, and those of about one length go through torch's causal attention together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from sailrl.data.batch import Batch

PADDING = 1.15
"""Samples that attend together are padded to at most this many times their tokens."""
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


def layout(batch: Batch) -> dict[str, Any]:
    """How the samples of a batch lie in its row: a keyword argument of the model's forward, for ``attend``."""
    return {"sailrl_layout": Layout(batch)}


class Layout:
    """Where each sample finds its tokens, made once for all layers."""

    def __init__(self, batch: Batch) -> None:
        self.starts, self.longest = batch.starts(), max(batch.lengths)
        """[B + 1] int32, where each sample starts among the M tokens of all samples, and M; the most of a sample."""
        self.row_starts, self.row_longest = batch.row_starts(), max(batch.row_lengths())
        """[B + 1] int32, the same among the N tokens of the row, where a prompt that was there already is missing."""
        self.places: Tensor | None = batch.places if len(batch.places) > len(batch.input_ids) else None
        """[M] places in the row of the samples' tokens; None where every sample has brought its own prompt."""
        self._batch = batch
        self._buckets: tuple[list[Tensor], Tensor] | None = None

    def buckets(self) -> tuple[list[Tensor], Tensor]:
        """Per bucket the places in the row [samples, longest] of its tokens, padded with a sample's last one; and for
        every place of the row where the buckets, one behind the other, hold it [N]."""
        if self._buckets is None:
            batch = self._batch
            tokens, places = _buckets(batch.lengths, batch.input_ids.device)
            self._buckets = [batch.places[of_one] for of_one in tokens], places[batch.owners]
        return self._buckets


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    sailrl_layout: Layout,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sample, as transformers calls it.

    Args:
        query, key, value: [1, heads, N, D]; key and value may have fewer heads.
        attention_mask: None; transformers makes no mask for attention that it does not know.
        sailrl_layout: of the samples in the row.

    Returns:
        [1, N, heads, D], and None for the weights.
    """
    layout, kind = sailrl_layout, query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    if query.is_cuda and dtype != torch.float32 and not dropout:
        q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))  # [N, heads, D]
        if layout.places is not None:
            # What is asked is the row; what is looked at, each sample's whole text. Where the questions of a sample are
            # fewer than its tokens, they are the last ones, and causal windows are counted from the end.
            k, v = (take(x.flatten(1), layout.places).unflatten(-1, x.shape[1:]) for x in (k, v))
        starts, longest, causal = (layout.row_starts, layout.starts), (layout.row_longest, layout.longest), (-1, 0)
        out = varlen_attn(q, k, v, *starts, *longest, scale=scaling, window_size=causal, enable_gqa=True)
        assert isinstance(out, Tensor)  # nothing but the output was asked for
        return out[None], None
    buckets, places = layout.buckets()
    q, k, v = (x[0].transpose(0, 1).flatten(1) for x in (query, key, value))  # [N, heads x D]
    together = []
    for rows in buckets:
        # What is padded lies behind a sample's own tokens, where causal attention does not look. A prompt that samples
        # share asks once in each of them: little beside what all other layers save.
        some_q, some_k, some_v = (
            take(x, rows).unflatten(-1, (-1, query.shape[-1])).transpose(1, 2) for x in (q, k, v)
        )  # [samples, heads, longest, D]
        out = torch.nn.functional.scaled_dot_product_attention(
            some_q, some_k, some_v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
        )
        together.append(out.transpose(1, 2).flatten(0, 1).flatten(1))  # [samples x longest, heads x D]
    return take(torch.cat(together), places)[None].unflatten(-1, (-1, query.shape[-1])), None


def take(rows: Tensor, which: Tensor) -> Tensor:
    """``rows[which]``, as an embedding: where a place is taken more than once, gradients add up in one order. Those of
    indexing do not on a CPU with threads, and a resumed run would not be the one that was killed."""
    return torch.nn.functional.embedding(which, rows)


def _buckets(lengths: tuple[int, ...], device: torch.device) -> tuple[list[Tensor], Tensor]:
    """How samples attend together.

    Args:
        lengths: of samples of M tokens in all, in order.

    Returns:
        Per bucket the numbers [samples, longest] of its tokens, padded with a sample's last one; and the place [M] of
        every token in what the buckets give, one behind the other.
    """
    buckets: list[list[int]] = []
    tokens = 0
    for sample in sorted(range(len(lengths)), key=lengths.__getitem__):
        tokens += lengths[sample]
        if buckets and (len(buckets[-1]) + 1) * lengths[sample] <= PADDING * tokens:
            buckets[-1].append(sample)
        else:
            buckets.append([sample])
            tokens = lengths[sample]
    counts = torch.tensor(lengths)
    starts = counts.cumsum(0) - counts
    rows, places, before = [], torch.empty(sum(lengths), dtype=torch.long), 0
    for bucket in buckets:
        longest = lengths[bucket[-1]]
        offset, count = torch.arange(longest), counts[bucket][:, None]
        row = starts[bucket][:, None] + offset.minimum(count - 1)
        own = offset < count
        places[row[own]] = own.flatten().nonzero()[:, 0] + before
        rows.append(row.to(device))
        before += row.numel()
    return rows, places.to(device)
