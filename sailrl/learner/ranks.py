"""What learner ranks do together: the number of passes, sums of metrics, and whole tensors from shards.

Every forward and backward pass gathers sharded layers, which is a collective. So all ranks make the same number of
passes, and all run the vision tower in every pass in which one of them has images.
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
"""Rows of a micro-batch (none: this rank only takes part in collectives), and whether the vision tower must run."""


def passes(micro_batches: Sequence[list[int]], has_images: Callable[[list[int]], bool]) -> list[Pass]:
    """This rank's passes; every rank has as many as the one with the most micro-batches (a collective).

    Micro-batches with images come first, so that few passes run the vision tower without an image.
    """
    if not dist.is_initialized():
        return [(rows, has_images(rows)) for rows in micro_batches]
    own = sorted(micro_batches, key=has_images, reverse=True)
    all_ranks = from_all([has_images(rows) for rows in own])
    run_vision = [any(of_pass) for of_pass in itertools.zip_longest(*all_ranks, fillvalue=False)]
    return list(zip(own + [[]] * (len(run_vision) - len(own)), run_vision, strict=True))


def sum_metrics(metrics: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Metrics added up over all ranks (a collective). A rank without rows, or without images, may lack some names."""
    if not dist.is_initialized():
        return metrics
    shapes = from_all({name: (value.shape, value.dtype) for name, value in metrics.items()})
    for name, (shape, dtype) in sorted({name: like for of in shapes for name, like in of.items()}.items()):
        value = metrics.setdefault(name, torch.zeros(shape, dtype=dtype, device=device))
        dist.all_reduce(value, dist.ReduceOp.MAX if is_max_metric(name) else dist.ReduceOp.SUM)
    return metrics


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a sharded tensor (a collective); any other tensor itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This rank's shard of ``whole``, which every rank has, sharded as ``like`` is."""
    if not isinstance(like, DTensor):
        return whole.to(like.device)
    mine = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like).copy_(mine)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's rows of a sharded tensor, in the same memory; any other tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: torch.Tensor) -> tuple[int, int]:
    """The first of this rank's rows of a tensor, and one past the last. FSDP2 shards rows in equal chunks."""
    rows = tensor.shape[0]
    if not isinstance(tensor, DTensor):
        return 0, rows
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None
    for dim, placement in enumerate(tensor.placements):
        if placement.is_shard():
            chunk = -(-rows // tensor.device_mesh.size(dim))
            return min(rows, coordinate[dim] * chunk), min(rows, (coordinate[dim] + 1) * chunk)
    return 0, rows


def rows_to_write(tensor: torch.Tensor) -> tuple[int, int] | None:
    """The rows of a tensor that this rank writes to a checkpoint; None where another rank has the same ones.

    Every row is written once: by the first copy, and of what is not sharded by rank 0. A scalar counts as one row.
    """
    if not isinstance(tensor, DTensor):
        return (0, tensor.shape[0] if tensor.dim() else 1) if first() else None
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None
    if any(coordinate[dim] for dim, placement in enumerate(tensor.placements) if not placement.is_shard()):
        return None
    return own_rows(tensor)


def from_all(value: Any) -> list[Any]:
    """The values of all ranks, on every rank (a collective)."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def rank() -> int:
    """The number of this rank; 0 where there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this is rank 0, which writes files."""
    return rank() == 0


def agreed(values: torch.Tensor) -> torch.Tensor:
    """Rank 0's values on every rank (a collective), so that all ranks decide the same."""
    if dist.is_initialized():
        dist.broadcast(values, src=0)
    return values
