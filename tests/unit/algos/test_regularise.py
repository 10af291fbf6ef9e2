"""Terms that are added to a loss, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from sailrl.algos.regularise import kl_loss, mean_entropy

LOGP = torch.tensor([[-1.0, -2.0, -9.0]], dtype=torch.float64)
REFERENCE = torch.tensor([[-1.5, -1.0, float("nan")]], dtype=torch.float64)
MASK = torch.tensor([[True, True, False]])
# x = 0.5 and -1. k1: 0.5 - 1 = -0.5. k2: 0.125 + 0.5. k3: exp(-0.5) - 1 + 0.5 = 0.106531, exp(1) - 1 - 1 = 0.718282.
K3 = (math.exp(-0.5) - 0.5) + (math.exp(1.0) - 2.0)


@pytest.mark.parametrize(
    ("estimator", "total", "slopes"),
    [
        ("k2", 0.625, [0.5, -1.0]),  # d k2 / dx = x
        ("k3", K3, [1 - math.exp(-0.5), 1 - math.exp(1.0)]),  # d k3 / dx = 1 - exp(-x)
    ],
)
def test_the_kl_and_its_gradient_are_those_by_hand(estimator, total: float, slopes: list[float]) -> None:
    logp = LOGP.clone().requires_grad_()
    loss, metrics = kl_loss(logp, REFERENCE, MASK, estimator=estimator, denominator=4)
    loss.backward()
    assert loss.item() == pytest.approx(total / 4, abs=1e-12)
    assert logp.grad is not None
    assert logp.grad[0].tolist() == pytest.approx([slopes[0] / 4, slopes[1] / 4, 0.0], abs=1e-12)
    assert metrics["reference/k1"].item() == pytest.approx(-0.5 / 4, abs=1e-12)
    assert metrics["reference/k3"].item() == pytest.approx(K3 / 4, abs=1e-12)
    assert not metrics["reference/k3"].requires_grad


def test_parts_of_an_update_add_up_and_a_mean_of_means_would_not() -> None:
    logp, reference = torch.randn(2, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] + [False] * 4])
    whole = kl_loss(logp, reference, mask, estimator="k3", denominator=6)[0]
    parts = [kl_loss(logp[i], reference[i], mask[i], estimator="k3", denominator=6)[0] for i in range(2)]
    assert torch.allclose(sum(parts, torch.zeros(())), whole)
    means = [kl_loss(logp[i], reference[i], mask[i], estimator="k3", denominator=(5, 1)[i])[0] / 2 for i in range(2)]
    assert not torch.allclose(sum(means, torch.zeros(())), whole)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3\), \(3,\), \(1, 3\); they must be equal"):
        kl_loss(LOGP, REFERENCE[0], MASK, estimator="k3", denominator=1)


def test_the_entropy_is_a_mean_over_the_tokens_that_count() -> None:
    entropy = torch.tensor([[0.5, 1.5, 9.0]], dtype=torch.float64)
    assert mean_entropy(entropy, MASK, denominator=4).item() == 0.5  # (0.5 + 1.5) / 4
