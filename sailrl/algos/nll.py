"""Negative log-likelihood for the supervised stages, averaged over tokens or samples, as the denominator decides."""

from __future__ import annotations

import torch
from torch import Tensor

from sailrl.algos.reduce import Denominator
from sailrl.algos.surrogate import Metrics


def nll_loss(logp: Tensor, mask: Tensor, *, denominator: Denominator) -> tuple[Tensor, Metrics]:
    """``-(1/D) sum_it log p(y_it)`` over unmasked tokens of ``[B, T]`` or packed ``[N]``, in nats.

    With D = tokens of the update this is the token mean that trainers commonly use; with D = samples of the update it
    is the papers' literal form, a mean over samples of unnormalised sums, where a chain of 20,000 tokens outweighs a
    ten-token answer 2,000 to 1.

    Returns:
        The loss, and two sums: ``nll/sum`` in nats and ``nll/tokens``; their quotient is the token mean in either form.

    Raises:
        ValueError: shapes differ or the denominator is a number that is not positive.

    Source: SAIL-VL2 (arXiv 2509.14033), Eq. 2 and 3.
    """
    if mask.shape != logp.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, logp has {tuple(logp.shape)}; they must be equal")
    if not isinstance(denominator, Tensor) and not denominator > 0:
        raise ValueError(f"denominator is {denominator}; it counts the tokens or samples of the update, at least 1")
    keep = mask.bool()
    total = -torch.where(keep, logp, 0.0).sum()
    return total / denominator, {"nll/sum": total.detach(), "nll/tokens": keep.sum().to(logp.dtype)}
