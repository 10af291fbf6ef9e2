"""GSPO: one importance ratio per response, length-normalised, so that a response is kept or clipped as a whole."""

from __future__ import annotations

import torch
from torch import Tensor

from sailrl.algos.reduce import Denominator
from sailrl.algos.surrogate import (
    MAX_LOG_RATIO,
    Metrics,
    clipped_surrogate,
    per_sequence,
    prepare,
    ratio_metrics,
)


def gspo_loss(
    logp: Tensor,
    old_logp: Tensor,
    adv: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    denominator: Denominator,
    weight: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """``-(1/G) sum_i min(s_i A_i, clip(s_i, 1 - clip_low, 1 + clip_high) A_i)``, ``s_i = exp(mean_t log r_it)``.

    Args:
        logp, old_logp: ``[B, T]``, nats, one row per response (a mean over a row needs rows: packed input is unpacked).
        adv: ``[B, T]`` constant in a row, or ``[B]``/``[B, 1]``. Were it to vary, a row counts the mean over its
        tokens.
        mask: ``[B, T]``; a row without tokens contributes nothing.
        clip_low, clip_high: 3e-4 and 4e-4 in the paper. ``s_i`` stays within about 1 +- 1e-3, so 0.2 would never clip.
        denominator: sequences of the whole update, over micro-batches and ranks.
        weight: ``[B, T]`` detached importance weights; a row is weighted by their mean over its tokens.

    Returns:
        The loss, and the metrics of ``surrogate.ratio_metrics`` as shares of sequences; ``ratio/*`` are of ``s_i``.

    Raises:
        ValueError: shapes differ or the denominator is not positive.

    Source: GSPO (arXiv 2507.18071), Eq. 5 and 7.
    """
    keep, adv, weight = prepare(logp, old_logp, adv, mask, weight, denominator)
    share = per_sequence(keep, logp.dtype)
    log_ratio = sequence_log_ratio(logp, old_logp, keep).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    per_token = clipped_surrogate(log_ratio.exp(), adv, clip_low, clip_high)
    metrics = ratio_metrics(log_ratio.detach(), adv, share, denominator, clip_low=clip_low, clip_high=clip_high)
    return (per_token * weight * share).sum() / denominator, metrics


def gspo_token_loss(
    logp: Tensor,
    old_logp: Tensor,
    adv: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    denominator: Denominator,
    weight: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """``-(1/G) sum_i (1/|y_i|) sum_t min(s_it A_it, clip(s_it) A_it)``.

    Here ``s_it = sg[s_i] pi_theta(y_it) / sg[pi_theta(y_it)]``, with sg the stop-gradient.
    Equal to ``gspo_loss`` in value and gradient where ``adv`` (and ``weight``) is constant in a row. It exists for the
    other case: advantages or weights per token then act on their own token's gradient, not on the row's mean.
    Arguments, metrics and errors as ``gspo_loss``.

    Source: GSPO (arXiv 2507.18071), Eq. 13 and 14.
    """
    keep, adv, weight = prepare(logp, old_logp, adv, mask, weight, denominator)
    share = per_sequence(keep, logp.dtype)
    sequence = sequence_log_ratio(logp, old_logp, keep).detach()
    own = torch.where(keep & ~logp.isneginf(), logp, 0.0)
    # The bracket is 0 and carries the gradient of this token alone; the clamp stops it where gspo_loss stops it.
    log_ratio = (sequence + (own - own.detach())).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    per_token = clipped_surrogate(log_ratio.exp(), adv, clip_low, clip_high)
    metrics = ratio_metrics(log_ratio.detach(), adv, share, denominator, clip_low=clip_low, clip_high=clip_high)
    return (per_token * weight * share).sum() / denominator, metrics


def sequence_log_ratio(logp: Tensor, old_logp: Tensor, keep: Tensor) -> Tensor:
    """``[B, T]`` copies of the row's ``mean_t log(pi_theta / pi_old)`` in nats; 0 for a row without tokens.

    Not clamped yet: the callers clamp the mean, as clamping its terms would change the ratio of a row with one extreme.
    """
    total = torch.where(keep, logp - old_logp.detach(), 0.0).sum(dim=-1, keepdim=True)
    return (total / keep.sum(dim=-1, keepdim=True).clamp(min=1)).expand_as(logp)
