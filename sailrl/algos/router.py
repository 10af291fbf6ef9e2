"""Mixture-of-experts health: the balancing loss over the global load, and how evenly experts are used.

The load is that of the whole update, not of one micro-batch: a batch of one subject may well use few experts only.
So ``expert_counts`` are summed over micro-batches and ranks by the caller, ``load_fraction`` turns them into shares,
and the loss takes those shares as given. One layer at a time; the caller stacks or sums layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sailrl.algos.reduce import Denominator


def expert_counts(experts: Tensor, n_experts: int) -> Tensor:
    """``[E]`` how often each expert was chosen (float64; sums over micro-batches and ranks).

    Args:
        experts: ``[N, K]`` ids of the experts each token was sent to in one layer; no padding.
    """
    chosen = experts.flatten().long()
    ones = torch.ones(chosen.shape, dtype=torch.float64, device=chosen.device)
    return ones.new_zeros(n_experts).scatter_add_(0, chosen, ones)  # bincount would make the host wait for a GPU


def load_fraction(counts: Tensor) -> Tensor:
    """``[..., E]`` shares of all assignments, summing to 1 (all 0 where nothing was counted)."""
    return counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)


def load_balancing_loss(
    router_logits: Tensor, fraction: Tensor, *, denominator: Denominator
) -> tuple[Tensor, dict[str, Tensor]]:
    """``E sum_e f_e P_e`` of one layer: 1 when balanced, E when every token goes to one expert with certainty.

    Args:
        router_logits: ``[N, E]``, scores before the softmax, no padding; taken to at least float32.
        fraction: ``[E]``, ``load_fraction`` of the counts of the whole update over all ranks; no gradient flows there.
        denominator: tokens of the whole update, over micro-batches and ranks.

    Returns:
        The loss, linear in the tokens and therefore the same for every split, and ``router/balance_loss``. Multiply it
        by a coefficient of its own (1e-3 is common; 0 in RL by default).

    Source: Switch Transformer (arXiv 2101.03961), Eq. 4 to 6, with f over the global batch (arXiv 2501.11873), as
    SAIL-VL2's "average activation across ranks" asks (arXiv 2509.14033, section 2.2).
    """
    if router_logits.dim() != 2 or router_logits.shape[1:] != fraction.shape:
        raise ValueError(
            f"router_logits {tuple(router_logits.shape)} and fraction {tuple(fraction.shape)} must be [N, E] and [E]"
        )
    wide = torch.promote_types(router_logits.dtype, torch.float32)
    probability = router_logits.softmax(dim=-1, dtype=wide)
    loss = fraction.shape[-1] * (probability * fraction.detach().to(wide)).sum() / denominator
    return loss, {"router/balance_loss": loss.detach()}


def load_entropy(fraction: Tensor) -> Tensor:
    """``[...]`` entropy ``-sum_e f_e log f_e`` of the load in nats per layer; ``log E`` when all experts share evenly.

    Source: SAIL-VL2 (arXiv 2509.14033), section 5.2: "expert activation entropy", here of the measured load.
    """
    return torch.special.entr(fraction).sum(dim=-1)


def relative_load_entropy(fraction: Tensor) -> Tensor:
    """``load_entropy`` over its maximum ``log E``: comparable between models with different numbers of experts."""
    return load_entropy(fraction) / math.log(max(fraction.shape[-1], 2))


def dead_experts(counts: Tensor) -> Tensor:
    """``[...]`` number of experts per layer that no token of the update was sent to."""
    return (counts == 0).sum(dim=-1)
