"""The router's balancing loss and load statistics."""

from __future__ import annotations

import math

import pytest
import torch

from sailrl.algos.router import (
    dead_experts,
    expert_counts,
    load_balancing_loss,
    load_entropy,
    load_fraction,
    relative_load_entropy,
)


def test_counts_keep_unused_experts() -> None:
    counts = expert_counts(torch.tensor([[0, 1], [1, 2]]), 5)
    assert counts.tolist() == [1, 2, 1, 0, 0]
    assert load_fraction(counts).tolist() == [0.25, 0.5, 0.25, 0.0, 0.0]
    assert dead_experts(counts) == 2
    assert load_fraction(torch.zeros(5)).tolist() == [0.0] * 5


def test_load_entropy_per_layer() -> None:
    # Even over four: ln 4. Half, quarter, quarter, none: 0.5 ln 2 + 2 * 0.25 ln 4 = 1.5 ln 2. One expert: 0.
    fraction = torch.tensor([[0.25] * 4, [0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert load_entropy(fraction).tolist() == pytest.approx([math.log(4), 1.5 * math.log(2), 0.0])
    assert relative_load_entropy(fraction).tolist() == pytest.approx([1.0, 0.75, 0.0])


def test_balancing_loss_is_one_when_even_and_the_number_of_experts_when_collapsed() -> None:
    even, _ = load_balancing_loss(torch.zeros(6, 4), torch.full((4,), 0.25), denominator=6)
    certain = torch.tensor([[100.0, 0.0, 0.0, 0.0]]).expand(6, 4)
    collapsed, _ = load_balancing_loss(certain, torch.tensor([1.0, 0, 0, 0]), denominator=6)
    assert (even.item(), collapsed.item()) == (pytest.approx(1.0), pytest.approx(4.0))


def test_balancing_loss_equals_transformers_up_to_its_factor_top_k() -> None:
    # There every token counts top_k times in f, so that an even load gives top_k instead of 1.
    modeling = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    logits = torch.randn(30, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chosen = logits.topk(2, dim=-1).indices
    fraction = load_fraction(expert_counts(chosen, 8))
    ours = logits.clone().requires_grad_()
    theirs = logits.clone().requires_grad_()
    loss, _ = load_balancing_loss(ours, fraction, denominator=30)
    expected = modeling.load_balancing_loss_func((theirs,), num_experts=8, top_k=2)
    assert 2 * loss.item() == pytest.approx(expected.item(), rel=1e-6)
    expected_grad = torch.autograd.grad(expected, theirs)[0]
    torch.testing.assert_close(2 * torch.autograd.grad(loss, ours)[0], expected_grad, rtol=1e-5, atol=1e-9)


def test_balancing_loss_is_the_same_for_every_split_given_the_global_load() -> None:
    logits = torch.randn(10, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chosen = logits.topk(1, dim=-1).indices
    counts = [expert_counts(chosen[rows], 4) for rows in (slice(0, 3), slice(3, 10))]
    fraction = load_fraction(counts[0] + counts[1])
    whole, _ = load_balancing_loss(logits, fraction, denominator=10)
    parts = [load_balancing_loss(logits[rows], fraction, denominator=10)[0] for rows in (slice(0, 3), slice(3, 10))]
    torch.testing.assert_close(parts[0] + parts[1], whole)
    # Negative control: each part balanced by its own load is another loss.
    own = [
        load_balancing_loss(logits[rows], load_fraction(count), denominator=10)[0]
        for rows, count in zip((slice(0, 3), slice(3, 10)), counts, strict=True)
    ]
    assert abs(own[0] + own[1] - whole) > 1e-3


def test_shares_of_another_number_of_experts_are_refused() -> None:
    with pytest.raises(ValueError, match="must be"):
        load_balancing_loss(torch.zeros(3, 4), torch.ones(3), denominator=3)
