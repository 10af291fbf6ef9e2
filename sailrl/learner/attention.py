"""Attention over a packed row: every sample attends to its own tokens only.

A prompt that several samples share is in the row once, and all of them attend to it.

A dense mask would do the same at a cost quadratic in the row: 1 GB per head for 16,384 tokens in float32. On GPUs in
half precision this uses torch's variable-length FlashAttention; elsewhere the row is split into its samples, and
samples of about the same length go through torch's causal attention together.
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
"""The name of ``attend`` in transformers' registry."""


def use_packed(model: Any) -> None:
    """Makes the language model in ``model`` use ``attend``, so that its samples can be packed."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    text = model.config.get_text_config()
    inner = next((name for name in model.config.sub_configs if getattr(model.config, name) is text), None)
    model.set_attn_implementation(NAME if inner is None else {inner: NAME})


def layout(batch: Batch) -> dict[str, Any]:
    """Where the samples of a batch are in its row: a keyword argument of the model's forward, used by ``attend``."""
    return {"sailrl_layout": Layout(batch)}


class Layout:
    """Where the tokens of each sample are in the row; computed once for all layers."""

    def __init__(self, batch: Batch) -> None:
        self.starts, self.longest = batch.starts(), max(batch.lengths)
        """[B + 1] int32, where each sample starts among the M tokens of all samples, and M; longest sample."""
        self.row_starts, self.row_longest = batch.row_starts(), max(batch.row_lengths())
        """[B + 1] int32, the same among the N tokens of the row, in which a shared prompt is stored once."""
        self.places: Tensor | None = batch.places if len(batch.places) > len(batch.input_ids) else None
        """[M] positions in the row of the samples' tokens; None where no prompt is shared."""
        self._batch = batch
        self._buckets: tuple[list[Tensor], Tensor] | None = None

    def buckets(self) -> tuple[list[Tensor], Tensor]:
        """Per bucket the positions in the row [samples, longest] of its tokens, padded with a sample's last one; and
        [N] the index of every token of the row in the concatenated buckets."""
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
        sailrl_layout: the samples in the row.

    Returns:
        [1, N, heads, D], and None for the weights.
    """
    layout, kind = sailrl_layout, query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    if query.is_cuda and dtype != torch.float32 and not dropout:
        q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))  # [N, heads, D]
        if layout.places is not None:
            # Queries are the tokens of the row; keys and values are all tokens of each sample. A sample with fewer
            # queries than keys has the last ones, and causal windows are aligned at the end.
            k, v = (take(x.flatten(1), layout.places).unflatten(-1, x.shape[1:]) for x in (k, v))
        starts, longest, causal = (layout.row_starts, layout.starts), (layout.row_longest, layout.longest), (-1, 0)
        out = varlen_attn(q, k, v, *starts, *longest, scale=scaling, window_size=causal, enable_gqa=True)
        assert isinstance(out, Tensor)  # no other output was requested
        return out[None], None
    buckets, places = layout.buckets()
    q, k, v = (x[0].transpose(0, 1).flatten(1) for x in (query, key, value))  # [N, heads x D]
    outputs = []
    for rows in buckets:
        # Padding follows a sample's own tokens, so causal attention does not see it. A shared prompt is computed once
        # per sample here, which costs little compared to what all other layers save.
        some_q, some_k, some_v = (
            take(x, rows).unflatten(-1, (-1, query.shape[-1])).transpose(1, 2) for x in (q, k, v)
        )  # [samples, heads, longest, D]
        out = torch.nn.functional.scaled_dot_product_attention(
            some_q, some_k, some_v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
        )
        outputs.append(out.transpose(1, 2).flatten(0, 1).flatten(1))  # [samples x longest, heads x D]
    return take(torch.cat(outputs), places)[None].unflatten(-1, (-1, query.shape[-1])), None


def take(rows: Tensor, which: Tensor) -> Tensor:
    """``rows[which]`` as an embedding: gradients of a row that is taken more than once add up in a fixed order. With
    indexing they do not on a CPU with threads, and a resumed run would differ from an uninterrupted one."""
    return torch.nn.functional.embedding(which, rows)


def _buckets(lengths: tuple[int, ...], device: torch.device) -> tuple[list[Tensor], Tensor]:
    """Groups samples of about the same length.

    Args:
        lengths: tokens of each sample, M in all.

    Returns:
        Per bucket the indices [samples, longest] of its tokens, padded with a sample's last one; and [M] the index of
        every token in the concatenated buckets.
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
