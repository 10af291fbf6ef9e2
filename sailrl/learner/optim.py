"""AdamW and its learning rate."""

from __future__ import annotations

import torch

from sailrl.config.learner import LearnerConfig


def build_optimizer(policy: torch.nn.Module, config: LearnerConfig) -> torch.optim.AdamW:
    """AdamW over all trainable parameters; weight decay falls on matrices only, never on norms and biases."""
    trainable = [p for p in policy.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
    )


def learning_rate(updates: int, config: LearnerConfig) -> float:
    """The rate of the next update after ``updates`` updates: a linear rise over the warm-up, then constant."""
    return config.learning_rate * min(1.0, (updates + 1) / (config.warmup_updates + 1))
