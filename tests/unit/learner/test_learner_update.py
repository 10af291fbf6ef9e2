"""An update of the learner: the split into micro-batches changes nothing, and nothing broken gets into the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sailrl.config.losses import Dapo
from sailrl.data.batch import Sample
from sailrl.data.pack import micro_batches
from sailrl.errors import LearnerError
from sailrl.learner.learner import Learner
from tests.fakes.tiny_learner import in_float64, make_learner, make_samples, make_scope, same, weights

BUDGETS = [1, 30, 64, 100_000]  # from one row per micro-batch to all rows in one


def _gradient(folder: Path, samples: list[Sample], budget: int, *, mean_of_means: bool = False) -> torch.Tensor:
    learner = make_learner(folder)
    in_float64(learner.policy)
    learner.set_episode(samples)
    split = micro_batches(samples, budget)
    for rows in split:
        scope = make_scope(samples)
        if mean_of_means:  # the plausible wrong formula: each micro-batch's own mean, then the mean of those
            scope = replace(scope, tokens=len(split) * make_scope([samples[i] for i in rows]).tokens)
        learner.forward_backward(rows, scope)
    grads = [p.grad for p in learner.policy.parameters()]
    return torch.cat([g.flatten() for g in grads if g is not None])


@pytest.mark.parametrize("budget", BUDGETS[:-1])
def test_the_gradient_is_the_same_for_every_split_into_micro_batches(tiny_folder: Path, budget: int) -> None:
    samples = make_samples(8)
    whole = _gradient(tiny_folder, samples, BUDGETS[-1])
    assert whole.norm() > 1e-3
    assert torch.allclose(_gradient(tiny_folder, samples, budget), whole, rtol=1e-9, atol=1e-12)


def test_the_mean_of_micro_batch_means_is_another_gradient(tiny_folder: Path) -> None:
    samples = make_samples(8)
    whole = _gradient(tiny_folder, samples, BUDGETS[-1])
    wrong = _gradient(tiny_folder, samples, 30, mean_of_means=True)
    assert (wrong - whole).norm() > 0.05 * whole.norm()


def test_weights_and_metrics_after_two_passes_are_the_same_for_every_split(tiny_folder: Path) -> None:
    samples = make_samples(8)
    outcomes = []
    for budget in BUDGETS:
        learner = make_learner(tiny_folder, max_tokens_per_microbatch=budget)
        in_float64(learner.policy)
        learner.set_episode(samples)
        learner.compute_old_logprobs()
        for _ in range(2):
            metrics = learner.update(range(8), make_scope(samples))
        outcomes.append((metrics, weights(learner)))
    metrics, final = outcomes[0]
    for other_metrics, other in outcomes[1:]:
        assert other_metrics == pytest.approx(metrics, rel=1e-6, abs=1e-9)
        assert all(torch.allclose(other[name], final[name], atol=1e-7) for name in final)


def test_learning_makes_better_responses_likelier_and_worse_ones_less_likely(tiny_folder: Path) -> None:
    samples = make_samples(6, group=1)
    learner = make_learner(tiny_folder)
    learner.set_episode(samples)
    before = _logp_per_row(learner)
    learner.update(range(6), make_scope(samples))
    after = _logp_per_row(learner)
    assert all((a > b) == (s.advantage > 0) for a, b, s in zip(after, before, samples, strict=True))


def test_a_single_on_policy_update_has_a_ratio_of_exactly_one(tiny_folder: Path) -> None:
    samples = make_samples(8)
    learner = make_learner(tiny_folder, max_tokens_per_microbatch=40)
    learner.set_episode(samples)
    metrics = learner.update(range(8), make_scope(samples))
    assert metrics["ratio/max"] == 1.0
    assert metrics["clip/low_fraction"] == metrics["clip/high_fraction"] == metrics["approx_kl"] == 0.0


def test_computed_old_logprobs_are_those_of_the_first_update(tiny_folder: Path) -> None:
    samples = make_samples(8)
    learner = make_learner(tiny_folder, max_tokens_per_microbatch=40)
    learner.set_episode(samples)
    learner.compute_old_logprobs()
    first = learner.update(range(8), make_scope(samples))
    second = learner.update(range(8), make_scope(samples))
    assert first["ratio/max"] == 1.0  # same rows, same micro-batches: the same numbers bit for bit
    assert second["ratio/max"] > 1.001  # the first update moved the policy, pi_old stayed


def test_old_logprobs_do_not_outlive_their_episode(tiny_folder: Path) -> None:
    samples = make_samples(4)
    learner = make_learner(tiny_folder)
    learner.set_episode(samples)
    learner.compute_old_logprobs()
    learner.update(range(4), make_scope(samples))
    learner.set_episode(samples)
    assert learner.update(range(4), make_scope(samples))["ratio/max"] == 1.0


def test_rows_of_an_update_may_be_any_part_of_the_episode(tiny_folder: Path) -> None:
    """An update on rows 5, 2, 7 is the update of an episode that has nothing but these."""
    samples, rows = make_samples(8), [5, 2, 7]
    part = [samples[i] for i in rows]
    one, other = make_learner(tiny_folder), make_learner(tiny_folder)
    one.set_episode(samples)
    other.set_episode(part)
    one.compute_old_logprobs()
    one.update(rows, make_scope(part))
    other.update(range(3), make_scope(part))
    a, b = weights(one), weights(other)
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)  # one step is 1e-2


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_an_error_and_changes_nothing(tiny_folder: Path, broken: float) -> None:
    samples = make_samples(4)
    learner = make_learner(tiny_folder)
    learner.set_episode([samples[0], replace(samples[1], advantage=broken), *samples[2:]])
    before = weights(learner)
    with pytest.raises(LearnerError, match=r"gradient norm of update 1 is (nan|inf)"):
        learner.update(range(4), make_scope(samples))
    assert same(weights(learner), before)
    assert learner.updates == 0

    learner.set_episode(samples)  # and nothing of it is left for the next update
    clean = make_learner(tiny_folder)
    clean.set_episode(samples)
    assert learner.update(range(4), make_scope(samples)) == clean.update(range(4), make_scope(samples))
    assert same(weights(learner), weights(clean))


def test_reported_gradient_norms_are_from_before_clipping(tiny_folder: Path) -> None:
    samples = make_samples(4)
    norms = []
    for clip in (1e-3, 1e3):
        learner = make_learner(tiny_folder, grad_clip=clip)
        learner.set_episode(samples)
        norms.append(learner.update(range(4), make_scope(samples))["grad_norm"])
    assert norms[0] == norms[1] > 1e-3


def test_engine_logprobs_weigh_tokens_and_are_measured(tiny_folder: Path) -> None:
    """An engine that claims log-probabilities 0.5 nats too low: every token weighs exp(0.5) = 1.65, below the cap of
    2, so the gradient norm is 1.65 times that of an engine in agreement."""
    samples = make_samples(4)
    learner = make_learner(tiny_folder)
    learner.set_episode(samples)
    learner.compute_old_logprobs()
    mine = _logp_rows(learner)
    results = []
    for shift in (0.0, -0.5):
        fresh = make_learner(tiny_folder, Dapo(), grad_clip=1e9)
        fresh.set_episode([replace(s, engine_logp=m + shift) for s, m in zip(samples, mine, strict=True)])
        results.append(fresh.update(range(4), make_scope(samples)))
    agreed, shifted = results
    assert agreed["mismatch/max_abs_dlogp"] == pytest.approx(0.0, abs=1e-5)
    assert shifted["mismatch/max_abs_dlogp"] == pytest.approx(0.5, abs=1e-5)
    assert shifted["grad_norm"] / agreed["grad_norm"] == pytest.approx(np.exp(0.5), rel=1e-4)


def _logp_rows(learner: Learner) -> list[np.ndarray]:
    from sailrl.data.batch import collate

    with torch.no_grad():
        logp, _ = learner.policy(collate(learner._samples))
    return [row[: len(s.response_ids)].numpy() for row, s in zip(logp, learner._samples, strict=True)]


def _logp_per_row(learner: Learner) -> list[float]:
    return [float(row.sum()) for row in _logp_rows(learner)]
