"""DAPO: clipped surrogate per token, one mean over all tokens of the update, clip-higher, no KL term."""

from __future__ import annotations

import torch
from torch import Tensor

from sailrl.algos.reduce import Denominator
from sailrl.algos.surrogate import Metrics, clipped_surrogate, prepare, ratio_metrics, safe_log_ratio


def dapo_loss(
    logp: Tensor,
    old_logp: Tensor,
    adv: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    denominator: Denominator,
    dual_clip: float | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """``-(1/N) sum_it w_it min(r_it A_it, clip(r_it, 1 - clip_low, 1 + clip_high) A_it)`` over unmasked tokens.

    Args:
        logp, old_logp: ``[B, T]`` or packed ``[N]``, log-probabilities of the sampled tokens in nats, under the policy
            being trained and under the one at the start of the episode.
        adv: ``[B, T]``, or ``[B]``/``[B, 1]``; advantages without unit.
        mask: ``[B, T]``, true where a response token carries loss.
        denominator: tokens of the whole update, over micro-batches and ranks.
        dual_clip: c > 1 bounds the loss of a token with negative advantage by ``-A c``; None leaves it unbounded.
        weight: ``[B, T]`` detached importance weights between engine and learner (``mismatch``), 1 where None.

    Returns:
        The loss, and ``clip/low_fraction``, ``clip/high_fraction``, ``clip/dual_fraction`` (with dual clip),
        ``approx_kl``, ``ratio/mean``, ``ratio/max`` as described in ``surrogate.ratio_metrics``.

    Raises:
        ValueError: shapes differ, the denominator is not positive, or ``dual_clip`` is not above 1.

    Source: DAPO (arXiv 2503.14476), Eq. 8; dual clip: arXiv 1912.09729.
    """
    keep, adv, weight = prepare(logp, old_logp, adv, mask, weight, denominator)
    log_ratio = safe_log_ratio(logp, old_logp, keep)
    per_token = clipped_surrogate(log_ratio.exp(), adv, clip_low, clip_high)
    share = keep.to(logp.dtype)
    metrics = ratio_metrics(log_ratio, adv, share, denominator, clip_low=clip_low, clip_high=clip_high)
    if dual_clip is not None:
        if not dual_clip > 1:
            raise ValueError(f"dual_clip is {dual_clip}; it bounds the ratio from above and must exceed 1, e.g. 3.0")
        ceiling = -adv * dual_clip
        metrics["clip/dual_fraction"] = (share * ((adv < 0) & (per_token.detach() > ceiling))).sum() / denominator
        per_token = torch.where(adv < 0, torch.minimum(per_token, ceiling), per_token)
    return (per_token * weight).sum() / denominator, metrics
