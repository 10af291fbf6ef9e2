"""Engine and learner disagree on the probability of the same token: how much (metrics), and what to do (weights).

With ``k_t = pi_learner(y_t; theta_old) / pi_engine(y_t)`` the sampler was the engine, so every token's loss deserves
the importance weight ``k_t``, tamed. Each correction returns detached weights ``[B, T]``, 0 where masked, to be handed
to a loss as ``weight``; the masks are 0/1 and combine with weights and with each other by multiplication. Every
function takes ``old_logp`` (learner) and ``engine_logp`` in nats, ``[B, T]`` and with the sampler's temperature
applied on both sides.

The same weights make an asynchronous run's loss the one of decoupled PPO (Hilton et al., arXiv 2110.00641; AReaL, arXiv
2505.24298): ``old_logp`` is the proximal policy, computed by the learner at the start of the episode, which the ratio
clips against; ``engine_logp`` is the behaviour policy, token by token that of whichever weights sampled it; ``k_t`` is
their quotient. What the policy learned since and what the two implementations disagree on are one number then.

The loss's denominator keeps counting all tokens: dropped ones must not make the remaining ones heavier.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sailrl.algos.reduce import Denominator
from sailrl.algos.surrogate import MAX_LOG_RATIO, Metrics, require_rows, safe_log_ratio

HISTOGRAM_EDGES = (-8.0, 2.0, 500)
"""``|log k|`` is counted in 500 bins even in log10 from 1e-8 to 1e2 nats: a percentile is right to 5 % of its value."""


@torch.no_grad()
def token_tis(old_logp: Tensor, engine_logp: Tensor, mask: Tensor, *, cap: float = 2.0) -> Tensor:
    """``min(k_t, cap)``: truncated importance sampling per token; bounded variance for a small bias.

    Source: Yao et al., "Your efficient RL framework secretly brings you off-policy RL training" (2025); cap 2.0.
    """
    keep = mask.bool()
    return torch.where(keep, safe_log_ratio(old_logp, engine_logp, keep).exp().clamp(max=cap), 0.0)


@torch.no_grad()
def icepop(old_logp: Tensor, engine_logp: Tensor, mask: Tensor, *, low: float = 0.5, high: float = 5.0) -> Tensor:
    """``k_t`` where ``low <= k_t <= high``, else 0: a token on which the two sides disagree has no weight.

    Source: IcePop, Ring-1T (arXiv 2510.18855); bounds 0.5 and 5.0.
    """
    keep = mask.bool()
    k = safe_log_ratio(old_logp, engine_logp, keep).exp()
    return torch.where(keep & (k >= low) & (k <= high), k, 0.0)


@torch.no_grad()
def sequence_mask(
    old_logp: Tensor, engine_logp: Tensor, mask: Tensor, *, low: float = 0.0, high: float = 3.0
) -> Tensor:
    """1 on rows with ``low <= prod_t k_t <= high``, else 0.

    Products over thousands of tokens leave any range under half-precision noise; ``geometric_mask`` does not.
    Source: Liu, Li et al., "When speed kills stability" (2025); bound 3.0.
    """
    require_rows(mask)
    keep = mask.bool()
    product = _sequence_log_k(old_logp, engine_logp, keep).exp()
    return (keep & (product >= low) & (product <= high)).to(old_logp.dtype)


@torch.no_grad()
def geometric_mask(
    old_logp: Tensor, engine_logp: Tensor, mask: Tensor, *, low: float = 0.99, high: float = 1.01
) -> Tensor:
    """1 on rows whose geometric mean ``exp(mean_t log k_t)`` lies in ``[low, high]``, else 0; independent of length.

    Published bounds differ a hundredfold (0.999 to 1.001, 0.99 to 1.01): look at ``mismatch/p99_abs_dlogp`` first.
    """
    require_rows(mask)
    keep = mask.bool()
    log_k = torch.where(keep, old_logp - engine_logp, 0.0)
    mean = log_k.sum(dim=-1, keepdim=True) / keep.sum(dim=-1, keepdim=True).clamp(min=1)
    geometric = mean.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return (keep & (geometric >= low) & (geometric <= high)).to(old_logp.dtype)


@torch.no_grad()
def veto(old_logp: Tensor, engine_logp: Tensor, mask: Tensor, *, below: float = 1e-4) -> Tensor:
    """0 on rows with any ``k_t < below``, else 1: one such token is a sign of a fault in the whole row."""
    require_rows(mask)
    keep = mask.bool()
    broken = (keep & (safe_log_ratio(old_logp, engine_logp, keep).exp() < below)).any(dim=-1, keepdim=True)
    return (keep & ~broken).to(old_logp.dtype)


@torch.no_grad()
def mismatch_metrics(old_logp: Tensor, engine_logp: Tensor, mask: Tensor, *, denominator: Denominator) -> Metrics:
    """How far engine and learner are apart, by the metric rules of this package; ``denominator`` counts tokens.

    ``mismatch/k3``: KL(engine || learner) in nats, estimated by ``k - 1 - log k``. ``mismatch/mean_abs_dlogp``,
    ``mismatch/max_abs_dlogp``: of ``|log k|``, unclamped. ``mismatch/outside_fraction``: share of k outside [0.5, 2].
    ``mismatch/k_mean``, ``mismatch/k_square_mean``: see ``effective_share``.
    """
    keep = mask.bool()
    distance = torch.where(keep, old_logp - engine_logp, 0.0).abs()
    log_k = safe_log_ratio(old_logp, engine_logp, keep)
    k = log_k.exp()
    return {
        "mismatch/k3": (k - 1 - log_k).sum() / denominator,
        "mismatch/mean_abs_dlogp": distance.sum() / denominator,
        "mismatch/max_abs_dlogp": distance.max() if distance.numel() else distance.sum(),
        "mismatch/outside_fraction": (keep & ((k < 0.5) | (k > 2.0))).to(k.dtype).sum() / denominator,
        "mismatch/k_mean": torch.where(keep, k, 0.0).sum() / denominator,
        "mismatch/k_square_mean": torch.where(keep, k.square(), 0.0).sum() / denominator,
    }


@torch.no_grad()
def correction_metrics(
    weight: Tensor, old_logp: Tensor, engine_logp: Tensor, mask: Tensor, *, denominator: Denominator
) -> Metrics:
    """What a correction did: ``mismatch/weight_mean``, and the shares of tokens it capped and dropped."""
    keep = mask.bool()
    k = safe_log_ratio(old_logp, engine_logp, keep).exp()
    return {
        "mismatch/weight_mean": torch.where(keep, weight, 0.0).sum() / denominator,
        "mismatch/capped_fraction": (keep & (weight > 0) & (weight < k)).to(k.dtype).sum() / denominator,
        "mismatch/dropped_fraction": (keep & (weight == 0)).to(k.dtype).sum() / denominator,
    }


def effective_share(metrics: Mapping[str, float | Tensor]) -> float:
    """Effective sample size as a share of the tokens, ``(sum k)^2 / (N sum k^2)``: 1 when both sides agree.

    Takes the merged metrics of the whole update, since a quotient of parts cannot be added up. 0 without tokens.
    """
    square = float(metrics["mismatch/k_square_mean"])
    return float(metrics["mismatch/k_mean"]) ** 2 / square if square else 0.0


@torch.no_grad()
def dlogp_histogram(old_logp: Tensor, engine_logp: Tensor, mask: Tensor) -> Tensor:
    """Counts (float64) of ``|log k|`` of unmasked tokens in the bins of ``HISTOGRAM_EDGES``; the end bins are open.

    Percentiles of parts cannot be added up, counts can: sum histograms over micro-batches and ranks, then call
    ``percentile``.
    """
    first, last, bins = HISTOGRAM_EDGES
    keep = mask.bool()
    distance = torch.where(keep, old_logp - engine_logp, 0.0).abs().double()
    position = (distance.clamp(min=10.0**first).log10() - first) / (last - first) * bins
    counts = torch.zeros(bins, dtype=torch.float64, device=distance.device)
    return counts.scatter_add_(0, position.long().clamp(0, bins - 1).flatten(), keep.double().flatten())


def percentile(histogram: Tensor, q: float) -> float:
    """The ``|log k|`` in nats (upper edge of its bin) that a share ``q`` of the tokens stays below; 0 if none."""
    first, last, bins = HISTOGRAM_EDGES
    total = float(histogram.sum())
    if not total:
        return 0.0
    index = int(torch.searchsorted(histogram.cumsum(0), histogram.new_tensor(q * total)))
    return float(10.0 ** (first + (min(index, bins - 1) + 1) / bins * (last - first)))


def derived_metrics(metrics: Mapping[str, float | Tensor], histogram: Tensor) -> dict[str, float]:
    """``mismatch/ess`` and the percentiles ``mismatch/p50_abs_dlogp`` and ``mismatch/p99_abs_dlogp`` (nats).

    What cannot be added up, from what could: merged ``mismatch_metrics`` and summed ``dlogp_histogram`` of the update.
    """
    return {
        "mismatch/ess": effective_share(metrics),
        "mismatch/p50_abs_dlogp": percentile(histogram, 0.50),
        "mismatch/p99_abs_dlogp": percentile(histogram, 0.99),
    }


def _sequence_log_k(old_logp: Tensor, engine_logp: Tensor, keep: Tensor) -> Tensor:
    """``[B, 1]`` clamped ``sum_t log k_t``."""
    total = torch.where(keep, old_logp - engine_logp, 0.0).sum(dim=-1, keepdim=True)
    return total.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
