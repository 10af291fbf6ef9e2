"""VESPO: a smooth weight on the ratio of the whole response in place of a clip."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sailrl.algos.reduce import Denominator
from sailrl.algos.surrogate import MAX_LOG_RATIO, Metrics, prepare, ratio_metrics, require_rows, safe_log_ratio

LOWEST = math.log(1e-8)
"""Log-ratios of a response are not below this, in nats."""


def vespo_loss(
    logp: Tensor,
    old_logp: Tensor,
    adv: Tensor,
    mask: Tensor,
    *,
    denominator: Denominator,
    k_pos: float = 2.0,
    lambda_pos: float = 3.0,
    k_neg: float = 3.0,
    lambda_neg: float = 2.0,
    weight: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """``-(1/N) sum_it sg[phi(W_i)] A_i log pi_theta(o_it)``, ``phi(W) = W^k exp(lambda (1 - W))``, by the sign of A.

    ``W_i`` is the product of ``w_it r_it`` over the response, so that a response is trusted as a whole: phi is 1 at
    W = 1 and falls on both sides. Tensors ``[B, T]`` as in ``dapo.dapo_loss``, with one advantage for a response;
    ``denominator`` counts the tokens of the whole update. As in CISPO, the value of the loss means little.

    Returns:
        The loss, and the metrics of ``surrogate.ratio_metrics`` without clip fractions.

    Raises:
        ValueError: shapes differ, the tensors are packed, or the denominator, a k or a lambda is not positive.

    Source: VESPO (arXiv 2602.10693); k and lambda as in TRL.
    """
    if not min(k_pos, lambda_pos, k_neg, lambda_neg) > 0:
        raise ValueError(f"k is {k_pos} and {k_neg}, lambda {lambda_pos} and {lambda_neg}; all must be positive")
    require_rows(mask)
    keep, adv, weight = prepare(logp, old_logp, adv, mask, weight, denominator)
    log_ratio = safe_log_ratio(logp, old_logp, keep).detach()
    log_weight = torch.where(keep, weight.log().clamp(LOWEST, MAX_LOG_RATIO), 0.0)
    whole = (log_ratio + log_weight).sum(dim=-1, keepdim=True).clamp(LOWEST, MAX_LOG_RATIO)
    k = torch.where(adv >= 0, logp.new_tensor(k_pos), logp.new_tensor(k_neg))
    rate = torch.where(adv >= 0, logp.new_tensor(lambda_pos), logp.new_tensor(lambda_neg))
    phi = (rate + k * whole - rate * whole.exp()).exp()
    per_token = -phi * adv * torch.where(keep & ~logp.isneginf(), logp, 0.0)  # 0 * -inf would be NaN
    return per_token.sum() / denominator, ratio_metrics(log_ratio, adv, keep.to(logp.dtype), denominator)
