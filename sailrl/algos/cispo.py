"""CISPO: clips the importance weight instead of the objective, so that no token ever loses its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from sailrl.algos.reduce import Denominator
from sailrl.algos.surrogate import Metrics, prepare, ratio_metrics, safe_log_ratio


def cispo_loss(
    logp: Tensor,
    old_logp: Tensor,
    adv: Tensor,
    mask: Tensor,
    *,
    clip_high: float,
    denominator: Denominator,
    clip_low: float | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """``-(1/N) sum_it w_it sg[clip(r_it, 1 - clip_low, 1 + clip_high)] A_it log pi_theta(o_it)``.

    Tensors ``[B, T]`` or packed ``[N]`` as in ``dapo.dapo_loss``; ``denominator`` counts the tokens of the whole
    update. ``clip_high`` is 4.0 where others write an upper bound of 5.0 on the ratio itself; ``clip_low`` None leaves
    the ratio unbounded below, as the paper does. The loss's value means little: its gradient is that of a weighted
    policy gradient.

    Returns:
        The loss, and the metrics of ``surrogate.ratio_metrics``; the clip fractions say how many weights were cut on
        the side where the sign of the advantage makes the cut matter, not how many gradients were lost (none is).

    Raises:
        ValueError: shapes differ or the denominator is not positive.

    Source: MiniMax-M1 (arXiv 2506.13585), Eq. 4 and 5.
    """
    keep, adv, weight = prepare(logp, old_logp, adv, mask, weight, denominator)
    log_ratio = safe_log_ratio(logp, old_logp, keep).detach()
    clipped = log_ratio.exp().clamp(None if clip_low is None else 1 - clip_low, 1 + clip_high)
    per_token = -clipped * adv * torch.where(keep & ~logp.isneginf(), logp, 0.0)  # 0 * -inf would be NaN
    metrics = ratio_metrics(log_ratio, adv, keep.to(logp.dtype), denominator, clip_low=clip_low, clip_high=clip_high)
    return (per_token * weight).sum() / denominator, metrics
