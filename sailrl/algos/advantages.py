"""Advantages relative to the group: how much better a response is than the others to the same prompt."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, group: Tensor, *, normalize_std: bool = True, eps: float = 1e-6) -> Tensor:
    """``A_i = (R_i - mean(R)) / (std(R) + eps)`` over the scored members of i's group.

    Args:
        rewards: ``[B]``; nan means not scored: left out of mean and std, and its own advantage is 0. (Mask such a
            response as well, or its tokens still count in the loss's denominator.)
        group: ``[B]`` integer ids, any values in any order.
        normalize_std: False gives ``R_i - mean(R)`` (Dr.GRPO).
        eps: added to the standard deviation, in the unit of the reward.

    Returns:
        ``[B]`` in the floating dtype of ``rewards``, without gradient. Exactly 0 in a group whose scored rewards are
        all equal, and in a group with a single one: there is nothing to compare.

    Raises:
        ValueError: shapes differ, ids are not integers, or a reward is infinite.

    Source: GRPO (arXiv 2402.03300), section 4.1.2; the standard deviation divides by n - 1 as in common trainers.
    """
    if rewards.dim() != 1 or rewards.shape != group.shape:
        raise ValueError(f"rewards {tuple(rewards.shape)} and group {tuple(group.shape)} must both be [B]")
    if group.is_floating_point():
        raise ValueError(f"group ids must be integers, got {group.dtype}")
    if bool(torch.isinf(rewards).any()):
        raise ValueError("a reward is infinite; a reward that could not be given is nan")
    dtype = rewards.dtype if rewards.is_floating_point() else torch.get_default_dtype()
    values = rewards.detach().double()  # sums of 0.1s in float32 would leave crumbs that a small std blows up
    scored = ~values.isnan()
    values = torch.where(scored, values, 0.0)
    ids, index = torch.unique(group, return_inverse=True)

    def per_group(x: Tensor) -> Tensor:
        return values.new_zeros(len(ids)).index_add_(0, index, x)

    count = per_group(scored.double())
    centred = values - (per_group(values) / count.clamp(min=1))[index]
    centred = torch.where(scored, centred, 0.0)
    highest = values.new_full((len(ids),), -torch.inf)
    highest = highest.scatter_reduce_(0, index, torch.where(scored, values, -torch.inf), "amax")
    lowest = values.new_full((len(ids),), torch.inf)
    lowest = lowest.scatter_reduce_(0, index, torch.where(scored, values, torch.inf), "amin")
    if normalize_std:
        std = (per_group(centred.square()) / (count - 1).clamp(min=1)).sqrt()
        centred = centred / (std + eps)[index]
    return torch.where((highest > lowest)[index], centred, 0.0).to(dtype)


def decoupled_advantages(scores: Tensor, weights: Tensor, group: Tensor, *, eps: float = 1e-6) -> Tensor:
    """GDPO: each reward is normalised within its group by itself, then they are summed, then the sum is normalised over
    all responses. So a rare reward is not lost in the sum with a frequent one.

    Args:
        scores: ``[B, K]``, the K rewards of each response; a response with a nan is left out, with an advantage of 0.
        weights: ``[K]``, a factor for each normalised reward.
        group: ``[B]`` integer ids.
        eps: added to every standard deviation.

    Returns:
        ``[B]`` without gradient; 0 everywhere where all sums are equal.

    Raises:
        ValueError: as ``group_advantages``.

    Source: GDPO (arXiv 2601.05242).
    """
    scored = ~scores.isnan().any(dim=1)
    whole = torch.where(scored[:, None], scores, torch.nan)
    each = torch.stack([group_advantages(column, group, eps=eps) for column in whole.T], dim=1)
    total = torch.where(scored, (each * weights.to(each)).sum(dim=1), torch.nan)
    return group_advantages(total, torch.zeros_like(group), eps=eps)
