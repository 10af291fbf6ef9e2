"""Log-probabilities and entropy of chosen tokens straight from hidden states, without the ``[N, V]`` logits.

At 16,384 tokens and a vocabulary of 151,936 the logits alone are 10 GB in float32, and a plain implementation needs two
to three such matrices at once. Here the output head runs in tiles of tokens x vocabulary small enough to stay in cache;
the forward keeps a running log-sum-exp, the backward computes each tile again and turns it into its gradient in place.

TRL's ``kernels.chunked_logprob`` tiles the same way and on CUDA folds a tile in one Triton kernel; liger's fused linear
losses compute gradients already in the forward, which ties them to one loss and cannot give entropy. Ours is kept
because a loss here takes log-probabilities from anywhere, because the statistics follow the input's precision (TRL's
are float32 even for float64, so no gradient check can pass), because the room imports torch only, and because
``benchmarks/head_memory.py``, which measures both, finds it no slower and no larger on CPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TILES = {"cpu": (1024, 4096), "cuda": (4096, 16384)}
"""Tokens and vocabulary entries of a tile, by the type of device."""
_BANNED = -1e30
"""Stands for a logit of -inf: its exp is 0 just the same, but 0 times it is 0, not NaN."""


def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int | None = None,
    vocab_chunk: int | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each position, under ``softmax((hidden @ weight.T + bias) / T)``.

    Args:
        hidden: ``[N, H]``, any floating dtype.
        weight: ``[V, H]``, the output head, same dtype. Sharded parameters are gathered by the caller.
        targets: ``[N]`` integer ids from 0 to V - 1; any other id gives NaN, not a quiet number (no device sync).
        temperature: the sampler's, so that these are the probabilities the tokens were drawn with.
        chunk, vocab_chunk: tokens and vocabulary entries per tile; ``2 * chunk * vocab_chunk`` numbers of extra memory.
            None takes those of ``TILES``: 34 MB, which stays in a CPU's cache, or on CUDA 0.5 GB, since many small
            kernels would cost more than they save. Results change by rounding only.
        bias: ``[V]`` or None; -inf bans an entry (its probability is 0, and nothing becomes NaN).

    Returns:
        ``(logp, entropy)``, both ``[N]`` in nats, float32 (float64 for float64 inputs), both differentiable with
        respect to hidden, weight and bias. The entropy's gradient costs nothing while no loss uses it.

    Half-precision inputs: products are accumulated and the softmax is taken in float32; on CUDA the matrix products
    run on the half-precision inputs with float32 results. Autocast is ignored: the inputs' own dtype decides.

    Raises:
        ValueError: shapes do not fit, or temperature, chunk or vocab_chunk is not positive.
    """
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)} must be [N, H] and [V, H]")
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"targets {tuple(targets.shape)} must be [N] for hidden {tuple(hidden.shape)}")
    if not temperature > 0:
        raise ValueError(
            f"temperature is {temperature}; it must be positive (greedy decoding has no log-probabilities)"
        )
    default_chunk, default_vocab_chunk = TILES["cuda" if hidden.is_cuda else "cpu"]
    chunk = default_chunk if chunk is None else chunk
    vocab_chunk = default_vocab_chunk if vocab_chunk is None else vocab_chunk
    if chunk < 1 or vocab_chunk < 1:
        raise ValueError(f"chunk is {chunk} and vocab_chunk {vocab_chunk}; both count tile rows or columns, at least 1")
    logp, entropy = _TiledHead.apply(hidden, weight, bias, targets, 1.0 / temperature, chunk, vocab_chunk)
    return logp, entropy


class _TiledHead(torch.autograd.Function):
    """Online log-sum-exp over vocabulary tiles; the backward computes the tiles again instead of keeping them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        chunk: int,
        vocab_chunk: int,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)  # an unused entropy then costs no term in the backward
        logp, entropy, log_z = (hidden.new_empty(len(hidden), dtype=_wide(hidden)) for _ in range(3))
        buffers = _buffers(hidden, weight, chunk, vocab_chunk)
        for rows in _slices(len(hidden), chunk):
            target = targets[rows].unsqueeze(1)
            top = torch.full_like(logp[rows], -torch.inf)  # running maximum m of the logits z
            total, moment = torch.zeros_like(top), torch.zeros_like(top)  # sum e^(z-m), sum z e^(z-m)
            picked = torch.where((target >= 0) & (target < len(weight)), 0.0, torch.nan).squeeze(1)  # the target's z
            for columns in _slices(len(weight), vocab_chunk):
                tile, scratch = _fit(buffers, rows, columns)
                _logits(hidden[rows], weight[columns], None if bias is None else bias[columns], scale, tile)
                inside, local = _locate(target, columns)
                picked = picked + torch.where(inside, tile.gather(1, local), 0.0).squeeze(1)
                new_top = torch.maximum(top, tile.amax(dim=1))
                shrink = (top - new_top).exp()
                torch.sub(tile, new_top.unsqueeze(1), out=scratch).exp_()
                total.mul_(shrink).add_(scratch.sum(dim=1))
                moment.mul_(shrink).add_(scratch.mul_(tile).sum(dim=1))
                top = new_top
            log_z[rows] = top + total.log()
            logp[rows] = picked - log_z[rows]
            entropy[rows] = log_z[rows] - moment / total
        ctx.save_for_backward(hidden, weight, bias, targets, log_z, entropy)
        ctx.sizes = scale, chunk, vocab_chunk
        return logp, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, log_z, entropy = ctx.saved_tensors
        scale, chunk, vocab_chunk = ctx.sizes
        d_hidden, d_weight, d_bias = (
            torch.zeros_like(x, dtype=_wide(x)) if needed else None
            for x, needed in zip((hidden, weight, bias), ctx.needs_input_grad[:3], strict=True)
        )
        g_logp = torch.zeros_like(log_z) if grads[0] is None else grads[0]
        g_entropy = grads[1]
        buffers = _buffers(hidden, weight, chunk, vocab_chunk)
        for rows in _slices(len(hidden), chunk):
            target, g_target = targets[rows].unsqueeze(1), g_logp[rows].unsqueeze(1)
            for columns in _slices(len(weight), vocab_chunk):
                tile, scratch = _fit(buffers, rows, columns)
                _logits(hidden[rows], weight[columns], None if bias is None else bias[columns], scale, tile)
                tile.sub_(log_z[rows].unsqueeze(1))  # now log p_v
                # d logp_target / dz_v = [v = target] - p_v, and d H / dz_v = -p_v (log p_v + H)
                slope = g_target
                if g_entropy is not None:
                    torch.add(tile, entropy[rows].unsqueeze(1), out=scratch)
                    slope = scratch.mul_(g_entropy[rows].unsqueeze(1)).add_(g_target)
                tile.exp_().mul_(slope).neg_()
                inside, local = _locate(target, columns)
                tile.scatter_add_(1, local, torch.where(inside, g_target, 0.0))
                if d_hidden is not None:
                    _add_product(d_hidden[rows], tile, weight[columns])
                if d_weight is not None:
                    _add_product(d_weight[columns], tile.t(), hidden[rows])
                if d_bias is not None:
                    d_bias[columns] += tile.sum(dim=0)
        d_hidden, d_weight, d_bias = (
            None if d is None else d.mul_(scale).to(x.dtype)
            for d, x in ((d_hidden, hidden), (d_weight, weight), (d_bias, bias))
        )
        return d_hidden, d_weight, d_bias, None, None, None, None


def _wide(x: Tensor) -> torch.dtype:
    """Precision of statistics and sums: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def _slices(n: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _buffers(hidden: Tensor, weight: Tensor, chunk: int, vocab_chunk: int) -> Tensor:
    """Memory of two tiles, used for every tile of a pass."""
    return hidden.new_empty(2, min(chunk, len(hidden)) * min(vocab_chunk, len(weight)), dtype=_wide(hidden))


def _fit(buffers: Tensor, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    """The two tiles in the shape of this step; the last ones of a pass are smaller and still contiguous."""
    n, v = rows.stop - rows.start, columns.stop - columns.start
    return buffers[0, : n * v].view(n, v), buffers[1, : n * v].view(n, v)


def _locate(target: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Whether each target lies in this tile, and its column there (a valid one in any case: no device sync)."""
    inside = (target >= columns.start) & (target < columns.stop)
    return inside, (target - columns.start).clamp(0, columns.stop - columns.start - 1)


def _tensor_cores(a: Tensor) -> bool:
    """Half-precision factors with float32 results exist on CUDA only; elsewhere the factors are widened."""
    return a.is_cuda and a.dtype in (torch.float16, torch.bfloat16)


@cache
def _adds_in_float32(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build of torch adds a half-precision product to a float32 matrix in one kernel; some refuse it."""
    total, factor = torch.zeros(16, 16, device=device), torch.zeros(16, 16, device=device, dtype=dtype)
    try:
        torch.addmm(total, factor, factor, out_dtype=total.dtype, out=total)
    except RuntimeError:
        return False
    return True


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, out: Tensor) -> None:
    """Writes ``(hidden @ weight.T + bias) * scale``, never rounded to half precision, to ``out``."""
    with torch.autocast(out.device.type, enabled=False):
        if _tensor_cores(hidden):
            torch.mm(hidden, weight.t(), out_dtype=out.dtype, out=out)
        else:
            torch.mm(hidden.to(out.dtype), weight.t().to(out.dtype), out=out)
    if bias is not None:
        out.add_(bias)
    if scale != 1.0:
        out.mul_(scale)
    if bias is not None:
        out.clamp_(min=_BANNED)


def _add_product(total: Tensor, tile: Tensor, factor: Tensor) -> None:
    """``total += tile @ factor``; the sum stays in ``total``'s precision, so that many tiles do not round it away."""
    with torch.autocast(total.device.type, enabled=False):
        if _tensor_cores(factor):
            narrow = tile.to(factor.dtype)
            if _adds_in_float32(factor.device, factor.dtype):
                torch.addmm(total, narrow, factor, out_dtype=total.dtype, out=total)
            else:
                total.add_(torch.mm(narrow, factor, out_dtype=total.dtype))
        else:
            total.addmm_(tile, factor.to(total.dtype))
