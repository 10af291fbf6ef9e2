"""SAPO: a soft gate in place of the hard clip; the gradient fades with distance from the old policy, it never jumps."""

from __future__ import annotations

import torch
from torch import Tensor

from sailrl.algos.reduce import Denominator
from sailrl.algos.surrogate import Metrics, per_sequence, prepare, ratio_metrics, safe_log_ratio


def sapo_loss(
    logp: Tensor,
    old_logp: Tensor,
    adv: Tensor,
    mask: Tensor,
    *,
    denominator: Denominator,
    tau_pos: float = 1.0,
    tau_neg: float = 1.05,
    weight: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """``-(1/G) sum_i (1/|o_i|) sum_t w_it A_it (4 / tau) sigmoid(tau (r_it - 1))``, tau by the sign of ``A_it``.

    Tensors ``[B, T]`` as in ``dapo.dapo_loss``; ``denominator`` counts the sequences of the whole update. At r = 1 the
    gradient equals the unclipped policy gradient; ``tau_neg > tau_pos`` lets it fade faster where probability is taken
    away.

    Returns:
        The loss, and the metrics of ``surrogate.ratio_metrics`` as means over sequences, without clip fractions.

    Raises:
        ValueError: shapes differ, or the denominator or a tau is not positive.

    Source: SAPO (arXiv 2511.20347), its objective and gate; tau 1.0 and 1.05 are the paper's.
    """
    if not (tau_pos > 0 and tau_neg > 0):
        raise ValueError(f"tau_pos is {tau_pos} and tau_neg {tau_neg}; both must be positive")
    keep, adv, weight = prepare(logp, old_logp, adv, mask, weight, denominator)
    share = per_sequence(keep, logp.dtype)
    log_ratio = safe_log_ratio(logp, old_logp, keep)
    tau = torch.where(adv > 0, logp.new_tensor(tau_pos), logp.new_tensor(tau_neg))
    per_token = -adv * (4 / tau) * torch.sigmoid(tau * (log_ratio.exp() - 1))
    return (per_token * weight * share).sum() / denominator, ratio_metrics(log_ratio, adv, share, denominator)
