"""What learner ranks have to agree on while each goes over rows of its own.

Every forward and backward pass puts sharded layers together, which takes all ranks: so all make the same number of
passes, and all run the vision tower in the passes in which one of them has images.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor

from sailrl.algos.reduce import is_max_metric

Pass = tuple[list[int], bool]
"""Rows of a micro-batch, none where this rank only keeps the others company, and whether the vision tower must run."""


def in_step(micro_batches: Sequence[list[int]], has_images: Callable[[list[int]], bool]) -> list[Pass]:
    """This rank's passes, as many as those of the rank with the most micro-batches (a collective).

    Micro-batches with images come first, so that few ranks run the tower for nothing.
    """
    if not dist.is_initialized():
        return [(rows, has_images(rows)) for rows in micro_batches]
    mine = sorted(micro_batches, key=has_images, reverse=True)
    everyones: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyones, [has_images(rows) for rows in mine])
    looks = [any(of_pass) for of_pass in itertools.zip_longest(*everyones, fillvalue=False)]
    return list(zip(mine + [[]] * (len(looks) - len(mine)), looks, strict=True))


def sum_metrics(metrics: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Metrics over all ranks, where some lack names that others have: a rank without rows, or without images."""
    if not dist.is_initialized():
        return metrics
    shapes: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(shapes, {name: (value.shape, value.dtype) for name, value in metrics.items()})
    for name, (shape, dtype) in sorted({name: like for of in shapes for name, like in of.items()}.items()):
        value = metrics.setdefault(name, torch.zeros(shape, dtype=dtype, device=device))
        dist.all_reduce(value, dist.ReduceOp.MAX if is_max_metric(name) else dist.ReduceOp.SUM)
    return metrics


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a sharded tensor (a collective); any other tensor itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What this rank keeps of ``whole``, which every rank has, where it keeps ``like``."""
    if not isinstance(like, DTensor):
        return whole.to(like.device)
    mine = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like).copy_(mine)


def rank() -> int:
    """The number of this rank; 0 where there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this is rank 0, which writes files."""
    return rank() == 0


def agreed(values: torch.Tensor) -> torch.Tensor:
    """Rank 0's values, on every rank: a decision taken on them is then the same everywhere."""
    if dist.is_initialized():
        dist.broadcast(values, src=0)
    return values
