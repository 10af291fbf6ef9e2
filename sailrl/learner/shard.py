"""A policy sharded over the learner's ranks, with torch's FSDP2 (``torch.distributed.fsdp.fully_shard``).

Every rank keeps its rows of every weight, gradient and Adam moment in float32. A decoder layer or vision block is
gathered in the precision of the forward pass when it is used, and freed afterwards; its gradient is summed in float32
over the ranks, never averaged, since losses are divided by counts of the whole update.

A sample is never split: the longest must fit one GPU. Of what could split one, read in the sources of torch 2.13,
transformers 5.19, accelerate and TRL: ``context_parallel`` (a prototype) replaces ``scaled_dot_product_attention`` on
CUDA by a ring for dense causal attention only, in which samples of one row would see each other (TRL
refuses packing with it); FlexAttention under ``_ContextParallel`` (private) could separate samples, for rows of a
multiple of 128 tokens per rank, with all keys and values gathered on every rank; Ulysses is DeepSpeed's, under
DeepSpeed's sharding. As transformers and accelerate use them, they split a row before the model, which would
separate placeholders from their images.

Run here on CPU over gloo. Mixed precision, offloading and NCCL need GPUs: tests/gpu/test_shard_gpu.py. They have not
been run so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from sailrl.learner.model import Policy


class Build(Protocol):
    """Makes the policy of a model folder."""

    def __call__(self, *, empty: bool) -> Policy:
        """With ``empty``, a policy of the same shape without memory (torch's meta device)."""


def shard(build: Build, device: torch.device, *, shard_ranks: int | None = None, offload: bool = False) -> Policy:
    """The policy over all ranks of the process group (a collective). Only rank 0 reads the whole model.

    Args:
        shard_ranks: consecutive ranks that share one copy of the weights, usually those of a node; all by default.
        offload: shards, gradients and optimizer stay in host memory, and the optimizer steps there.
    """
    whole = build(empty=False) if dist.get_rank() == 0 else None
    mesh = mesh_of(device, shard_ranks or dist.get_world_size())
    policy = split(build(empty=True), mesh, offload=offload and device.type == "cuda")
    policy.to_empty(device=torch.device("cpu") if offload else device)
    _fill(policy, whole, device)
    return policy


def split(policy: Policy, mesh: DeviceMesh, *, offload: bool = False) -> Policy:
    """Divides the parameters of an empty policy over a mesh, in place, and returns it."""
    half = policy.dtype != torch.float32
    precision = MixedPrecisionPolicy(policy.dtype, reduce_dtype=torch.float32) if half else MixedPrecisionPolicy()
    options: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": precision,
        "offload_policy": CPUOffloadPolicy() if offload else OffloadPolicy(),
        # Also at the root, which would stay gathered after a pass without a backward: outside of passes weights are
        # always shards.
        "reshard_after_forward": True,
    }
    for block in blocks(policy.model):
        fully_shard(block, **options)
    fully_shard(policy, **options)
    for method in ("prompt_logprobs", "response_logits"):  # besides forward, the methods that are called from outside
        register_fsdp_forward_method(policy, method)
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has only sums; used with NCCL, too
            module.set_reduce_scatter_unused_params(True)  # an expert may have got no token on one rank
    return policy


def mesh_of(device: torch.device, shard_ranks: int) -> DeviceMesh:
    """The ranks of the process group, as copies of the weights times shards of a copy."""
    ranks = dist.get_world_size()
    if shard_ranks == ranks:
        return init_device_mesh(device.type, (ranks,), mesh_dim_names=("shard",))
    return init_device_mesh(device.type, (ranks // shard_ranks, shard_ranks), mesh_dim_names=("replicate", "shard"))


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Decoder layers and vision blocks: the elements of the outermost module lists."""
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from blocks(child)


@torch.no_grad()
def _fill(policy: Policy, whole: Policy | None, device: torch.device) -> None:
    """Copies rank 0's parameters to every rank's shards, tensor by tensor, and all buffers."""
    parameters = {} if whole is None else dict(whole.named_parameters())
    for name, parameter in policy.named_parameters():
        assert isinstance(parameter, DTensor)
        like = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        full = like if whole is None else like.copy_(parameters[name])
        parameter.copy_(distribute_tensor(full, parameter.device_mesh, parameter.placements))
    buffers = {} if whole is None else dict(whole.named_buffers())
    for name, buffer in policy.named_buffers():
        full = torch.empty_like(buffer, device=device) if whole is None else buffers[name].to(device)
        dist.broadcast(full, src=0)
        owner, _, last = name.rpartition(".")
        setattr(policy.get_submodule(owner), last, full)
