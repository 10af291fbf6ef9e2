"""Dr.GRPO: the clipped surrogate per token over a constant, so that length changes no token's weight."""

from __future__ import annotations

from torch import Tensor

from sailrl.algos.reduce import Denominator
from sailrl.algos.surrogate import Metrics, clipped_surrogate, prepare, ratio_metrics, safe_log_ratio


def dr_grpo_loss(
    logp: Tensor,
    old_logp: Tensor,
    adv: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    denominator: Denominator,
    tokens: Denominator,
    weight: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """``-(1 / (B L_max)) sum_it w_it min(r_it A_it, clip(r_it, 1 - clip_low, 1 + clip_high) A_it)``.

    Tensors ``[B, T]`` or packed ``[N]`` as in ``dapo.dapo_loss``. ``denominator`` is the update's number of sequences
    times the longest response allowed; ``tokens`` is the update's number of tokens, which only the metrics need: a
    share of tokens over ``B L_max`` would mean nothing. Advantages for it are not divided by the standard deviation
    (``group_advantages(..., normalize_std=False)``).

    Returns:
        The loss, and the metrics of ``surrogate.ratio_metrics`` as means over tokens.

    Raises:
        ValueError: shapes differ or the denominator is not positive.

    Source: Dr.GRPO (arXiv 2503.20783), section 3.2.
    """
    keep, adv, weight = prepare(logp, old_logp, adv, mask, weight, denominator)
    log_ratio = safe_log_ratio(logp, old_logp, keep)
    per_token = clipped_surrogate(log_ratio.exp(), adv, clip_low, clip_high)
    metrics = ratio_metrics(log_ratio, adv, keep.to(logp.dtype), tokens, clip_low=clip_low, clip_high=clip_high)
    return (per_token * weight).sum() / denominator, metrics
