"""A KL term holds the policy near the weights that it started with; an entropy bonus keeps it open."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sailrl.config.losses import Dapo
from sailrl.config.schema import LoraConfig
from sailrl.data.batch import collate
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.reference import ReferencePolicy
from tests.fakes.tiny_learner import make_learner, make_samples, make_scope

SMALL = LoraConfig(rank=4, alpha=8)
SAMPLES = make_samples(6)


def learner_with(folder: Path, algorithm: Dapo, adapter: LoraConfig | None = None) -> Learner:
    learner = make_learner(folder, algorithm, adapter=adapter)
    if algorithm.kl_coef:
        learner._reference = ReferencePolicy(learner.policy, None if adapter else Policy(str(folder)))
    learner.set_episode(SAMPLES)
    return learner


def after(learner: Learner, updates: int) -> dict[str, float]:
    """The metrics of the last update."""
    for _ in range(updates):
        metrics = learner.update(range(6), make_scope(SAMPLES))
    return metrics


@pytest.mark.parametrize("adapter", [None, SMALL])
def test_the_reference_stays_where_the_run_started(tiny_folder: Path, adapter: LoraConfig | None) -> None:
    start = Policy(str(tiny_folder))(collate(SAMPLES))[0]
    learner = learner_with(tiny_folder, Dapo(kl_coef=0.1), adapter)
    assert after(learner, 1)["reference/k3"] == 0.0  # before the first step they are the same
    assert after(learner, 4)["reference/k3"] > 1e-6
    assert learner._reference is not None
    assert torch.equal(learner._reference(collate(SAMPLES)), start)
    assert not torch.allclose(learner.policy(collate(SAMPLES))[0], start)


@pytest.mark.parametrize("adapter", [None, SMALL])
def test_a_stronger_pull_keeps_the_policy_nearer(tiny_folder: Path, adapter: LoraConfig | None) -> None:
    weak, strong = (after(learner_with(tiny_folder, Dapo(kl_coef=c), adapter), 6) for c in (1e-6, 10.0))
    assert strong["reference/k3"] < 0.5 * weak["reference/k3"]


def test_an_adapter_still_learns_after_the_reference_was_asked(tiny_folder: Path) -> None:
    learner = learner_with(tiny_folder, Dapo(kl_coef=0.1), SMALL)
    trained = {name for name, p in learner.policy.named_parameters() if p.requires_grad}
    after(learner, 1)
    assert {name for name, p in learner.policy.named_parameters() if p.requires_grad} == trained != set()


def test_an_entropy_bonus_raises_the_entropy(tiny_folder: Path) -> None:
    without, bonus = (after(learner_with(tiny_folder, Dapo(entropy_coef=c)), 6) for c in (0.0, 1.0))
    assert bonus["entropy"] > without["entropy"]
