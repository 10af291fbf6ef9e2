"""GRPO: the clipped surrogate per token, averaged over each response first, then over responses."""

from __future__ import annotations

from torch import Tensor

from sailrl.algos.reduce import Denominator
from sailrl.algos.surrogate import Metrics, clipped_surrogate, per_sequence, prepare, ratio_metrics, safe_log_ratio


def grpo_loss(
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
    """``-(1/G) sum_i (1/|o_i|) sum_t w_it min(r_it A_it, clip(r_it, 1 - clip_low, 1 + clip_high) A_it)``.

    Tensors ``[B, T]`` as in ``dapo.dapo_loss``; ``denominator`` counts the sequences of the whole update. A token of a
    long response counts less than one of a short response, which is what DAPO and Dr.GRPO change. The KL penalty of the
    paper is left out, as in all of this recipe.

    Returns:
        The loss, and the metrics of ``surrogate.ratio_metrics`` as means over sequences.

    Raises:
        ValueError: shapes differ or the denominator is not positive.

    Source: GRPO (arXiv 2402.03300), Eq. 3 without its KL term.
    """
    keep, adv, weight = prepare(logp, old_logp, adv, mask, weight, denominator)
    share = per_sequence(keep, logp.dtype)
    log_ratio = safe_log_ratio(logp, old_logp, keep)
    per_token = clipped_surrogate(log_ratio.exp(), adv, clip_low, clip_high)
    metrics = ratio_metrics(log_ratio, adv, share, denominator, clip_low=clip_low, clip_high=clip_high)
    return (per_token * weight * share).sum() / denominator, metrics
