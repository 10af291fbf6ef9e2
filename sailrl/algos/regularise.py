"""Terms that are added to a loss: a pull towards a reference policy, and a bonus for entropy."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from sailrl.algos.reduce import Denominator
from sailrl.algos.surrogate import Metrics, safe_log_ratio

Estimator = Literal["k2", "k3"]


def kl_loss(
    logp: Tensor, reference_logp: Tensor, mask: Tensor, *, estimator: Estimator, denominator: Denominator
) -> tuple[Tensor, Metrics]:
    """``(1/N) sum_t k(x_t)`` with ``x = log(pi_theta / pi_ref)``: KL(pi_theta || pi_ref) on sampled tokens, in nats.

    ``k1 = x`` is the plain estimate and only a metric: as a loss its gradient is 0 on average. ``k2 = x^2 / 2`` has the
    gradient ``x`` per token, that of a penalty k1 on the reward of each token; ``k3 = exp(-x) - 1 + x`` has less
    variance than k1 and is never negative.

    Args:
        logp, reference_logp: ``[B, T]`` or packed ``[N]``, log-probabilities of the sampled tokens in nats.
        mask: the same shape, true where a response token carries loss.
        denominator: tokens of the whole update, over micro-batches and ranks.

    Returns:
        The term, and ``reference/k1`` and ``reference/k3``, means over the tokens in nats.

    Raises:
        ValueError: shapes differ.

    Source: Schulman, "Approximating KL divergence" (2020); GRPO (arXiv 2402.03300), Eq. 4.
    """
    if not logp.shape == reference_logp.shape == mask.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (logp, reference_logp, mask))
        raise ValueError(f"logp, reference_logp and mask have the shapes {shapes}; they must be equal")
    x = safe_log_ratio(logp, reference_logp, mask.bool())
    k3 = (-x).exp() - 1 + x
    per_token = k3 if estimator == "k3" else x.square() / 2
    metrics = {"reference/k1": x.detach().sum() / denominator, "reference/k3": k3.detach().sum() / denominator}
    return per_token.sum() / denominator, metrics


def mean_entropy(entropy: Tensor, mask: Tensor, *, denominator: Denominator) -> Tensor:
    """The mean entropy of the policy over unmasked tokens, in nats. A loss that subtracts it explores more.

    Source: PPO (arXiv 1707.06347), Eq. 9.
    """
    return (entropy * mask).sum() / denominator
