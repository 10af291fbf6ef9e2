"""The optimizer: its rate by hand, and what weight decay falls on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sailrl.config.learner import LearnerConfig
from sailrl.learner.optim import build_optimizer, learning_rate
from tests.fakes.tiny_learner import make_learner, make_samples, make_scope


def test_the_rate_rises_linearly_over_the_warm_up_and_then_stays() -> None:
    config = LearnerConfig(learning_rate=1.0, warmup_updates=3)
    # 3 updates below the peak: 1/4, 2/4, 3/4; the 4th is the first at the peak
    assert [learning_rate(n, config) for n in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_without_warm_up_the_first_update_has_the_full_rate() -> None:
    assert learning_rate(0, LearnerConfig(learning_rate=3e-4)) == 3e-4


def test_an_update_uses_the_rate_it_reports(tiny_folder: Path) -> None:
    """Adam's first step moves a weight by the rate, whatever the gradient: m / sqrt(v) is 1 or -1."""
    samples = make_samples(4)
    for warmup, rate in ((0, 1e-2), (3, 2.5e-3)):
        learner = make_learner(tiny_folder, warmup_updates=warmup, weight_decay=0.0)
        before = learner.policy.model.lm_head.weight.detach().clone()
        learner.set_episode(samples)
        assert learner.update(range(4), make_scope(samples))["learning_rate"] == rate
        moved = (learner.policy.model.lm_head.weight.detach() - before).abs().max()
        assert float(moved) == pytest.approx(rate, rel=1e-3)


def test_weight_decay_falls_on_matrices_only() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    decayed, others = build_optimizer(module, LearnerConfig(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], [p.dim() for p in decayed["params"]]) == (0.1, [2])
    assert (others["weight_decay"], [p.dim() for p in others["params"]]) == (0.0, [1, 1, 1])


def test_frozen_parameters_are_not_optimized() -> None:
    module = torch.nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    groups = build_optimizer(module, LearnerConfig()).param_groups
    assert [len(group["params"]) for group in groups] == [1, 0]
