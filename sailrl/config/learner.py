"""The learner's settings: its ranks, which supervised stages have, too, and its optimizer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sailrl.config.base import Section


class RanksConfig(Section):
    """Processes of the learner, and what each of them holds."""

    ranks: int = Field(default=1, ge=1)
    """Learner processes, one per GPU. Each holds a part of weights, gradients and optimizer state (FSDP2)."""
    shard_ranks: int | None = Field(default=None, ge=2)
    """Ranks that share one copy of the weights (hybrid sharding: write the GPUs of a node). Null: all ranks share
    one."""
    offload: Literal["none", "optimizer"] = "none"
    """`optimizer` keeps master weights, gradients and Adam's moments in host memory and does the step there: 16 bytes
    per parameter less on the GPUs, and a slower step. No effect on a CPU."""
    router_float32: bool = True
    """Experts: compute the router's scores in float32 whatever `model.dtype` is, so that rounding does not change which
    experts are chosen."""
    router_aux_coef: float = Field(default=0.0, ge=0)
    """Experts: weight of the load-balancing loss over the load of the whole update and all ranks; 0 is off (1e-3 is
    common in pre-training). Above 0 it needs one more forward pass per update to count the load."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of a rank; null divides all cores among the ranks. With `rollout.max_staleness` on a machine without
    a GPU, leave some cores to the engines, which use all but one."""
    timeout_s: float = Field(default=1800.0, gt=0)
    """Deadline for one update, and for loading the model."""

    @property
    def distributed(self) -> bool:
        """Whether ranks run in processes of their own; one rank that offloads nothing needs none."""
        return self.ranks > 1 or self.offload != "none"


class LearnerConfig(RanksConfig):
    """Optimizer and memory of the learner."""

    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""
    warmup_updates: int = Field(default=0, ge=0)
    """Updates over which the rate rises linearly to its peak (DAPO: 20 rollout steps)."""
    betas: tuple[float, float] = Field(default=(0.9, 0.999), strict=False)
    """AdamW's decay rates."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay, on matrices only."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest global gradient norm."""
    max_tokens_per_microbatch: int = Field(default=20480, ge=1)
    """Token budget of one forward and backward pass over packed samples. A prompt counts once, and an eighth for each
    further response to it. The gradient does not depend on it. At least the longest prompt and response together
    (16384 + 4096). Default: that sum, where it is larger than 20480."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more compute."""
    routing_replay: Literal["none", "r2", "r3"] = "none"
    """Experts: which ones an update uses. `r2`: those that the old policy chose. `r3` (arXiv 2510.11370): those that
    the engine chose, for the old policy too; it needs engines on GPUs. Token-level ratios need one of the two, GSPO
    does not."""
