"""Loss and gradient of every algorithm against plain Python, in float64; and examples a pencil can check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sailrl.algos.dapo import dapo_loss
from sailrl.algos.grpo import grpo_loss
from sailrl.algos.gspo import gspo_loss, gspo_token_loss
from sailrl.algos.nll import nll_loss
from tests.unit.algos import by_hand
from tests.unit.algos.by_hand import Batch, Rows, random_batch
from tests.unit.algos.loss_table import LONGEST, LOSSES

REFERENCES: dict[str, Callable[[Batch], tuple[float, Rows]]] = {
    "dapo": lambda b: by_hand.tokenwise(b, by_hand.clipped_term(0.2, 0.28, dual=3.0), b.tokens, False),
    "gspo": lambda b: by_hand.gspo(b, 0.05, 0.07, b.sequences),
    "gspo_token": lambda b: by_hand.gspo_token(b, 0.05, 0.07, b.sequences),
    "grpo": lambda b: by_hand.tokenwise(b, by_hand.clipped_term(0.2, 0.28), b.sequences, True),
    "dr_grpo": lambda b: by_hand.tokenwise(b, by_hand.clipped_term(0.2, 0.28), b.sequences * LONGEST, False),
    "cispo": lambda b: by_hand.tokenwise(b, by_hand.cispo_term(0.9, 4.0), b.tokens, False),
    "vespo": lambda b: by_hand.vespo(b, (2.0, 3.0), (3.0, 2.0), b.tokens),
    "sapo": lambda b: by_hand.tokenwise(b, by_hand.sapo_term(1.0, 1.05), b.sequences, True),
}


def gradient(name: str, batch: Batch) -> tuple[float, Tensor]:
    logp = batch.logp.clone().requires_grad_()
    loss, _ = LOSSES[name](logp, batch, batch)
    (grad,) = torch.autograd.grad(loss, logp)
    return loss.item(), grad


@pytest.mark.parametrize("spread", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_loss_and_gradient_equal_the_formula_written_out_by_hand(name: str, spread: float) -> None:
    for seed in range(10):
        batch = random_batch(seed, spread=spread)
        loss, grad = gradient(name, batch)
        expected, expected_grad = REFERENCES[name](batch)
        assert loss == pytest.approx(expected, rel=1e-10)
        torch.testing.assert_close(grad, torch.tensor(expected_grad, dtype=torch.float64), rtol=1e-10, atol=1e-14)


def test_dapo_example_for_a_pencil() -> None:
    # Two responses, three tokens in all. Ratios: row 0: 1.5 and 1.1; row 1: 0.5. Advantages +1 and -2. Clip 0.2/0.28.
    #   1.5 -> clipped to 1.28: -1.28, no slope;  1.1 -> -1.1;  0.5 with A = -2 -> clipped to 0.8: +1.6, no slope
    #   loss = (-1.28 - 1.1 + 1.6) / 3 = -0.26;  gradient of the middle token: -1.1 / 3
    ratio = torch.tensor([[1.5, 1.1], [0.5, 9.0]], dtype=torch.float64)
    logp = ratio.log().requires_grad_()
    adv = torch.tensor([[1.0, 1.0], [-2.0, -2.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1], [1, 0]])
    old = torch.zeros(2, 2, dtype=torch.float64)
    loss, metrics = dapo_loss(logp, old, adv, mask, clip_low=0.2, clip_high=0.28, denominator=3)
    (grad,) = torch.autograd.grad(loss, logp)
    assert loss.item() == pytest.approx(-0.26)
    expected = torch.tensor([[0.0, -1.1 / 3], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(grad, expected)
    assert metrics["clip/high_fraction"].item() == pytest.approx(1 / 3)
    assert metrics["clip/low_fraction"].item() == pytest.approx(1 / 3)
    assert metrics["ratio/mean"].item() == pytest.approx((1.5 + 1.1 + 0.5) / 3)
    assert metrics["ratio/max"].item() == pytest.approx(1.5)  # the 9.0 is masked
    # k3 = r - 1 - log r: 1.5 -> 0.094535, 1.1 -> 0.004690, 0.5 -> 0.193147; mean 0.097457
    assert metrics["approx_kl"].item() == pytest.approx(0.097457, abs=1e-6)


def test_dual_clip_bounds_what_one_bad_token_can_cost() -> None:
    # A = -1: ratio 10 costs 10 without the bound and 3 with it, and has no gradient then; ratio 2 keeps its 2.
    logp = torch.tensor([[10.0, 2.0]], dtype=torch.float64).log().requires_grad_()
    zero, one = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    free, _ = dapo_loss(logp, zero, -one, one, clip_low=0.2, clip_high=0.28, denominator=2)
    bound, metrics = dapo_loss(logp, zero, -one, one, clip_low=0.2, clip_high=0.28, denominator=2, dual_clip=3.0)
    (grad,) = torch.autograd.grad(bound, logp)
    assert (free.item(), bound.item()) == (pytest.approx(6.0), pytest.approx(2.5))
    assert grad.tolist() == [[0.0, pytest.approx(1.0)]]
    assert metrics["clip/dual_fraction"].item() == 0.5


def test_gspo_example_for_a_pencil() -> None:
    # Row 0: log-ratios 0.2 and 0.4, mean 0.3, s = e^0.3 = 1.349859; A = 1, not clipped: -1.349859, slope half of it.
    # Row 1: one token, log-ratio -0.5, s = 0.606531, A = -1, clipped at 0.8: +0.8 and no slope.
    #   loss = (-1.349859 + 0.8) / 2 = -0.274929
    logp = torch.tensor([[0.2, 0.4], [-0.5, 7.0]], dtype=torch.float64, requires_grad=True)
    adv = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True], [True, False]])
    loss, metrics = gspo_loss(logp, torch.zeros_like(logp), adv, mask, clip_low=0.2, clip_high=0.5, denominator=2)
    (grad,) = torch.autograd.grad(loss, logp)
    assert loss.item() == pytest.approx(-0.2749294, abs=1e-7)
    torch.testing.assert_close(
        grad, torch.tensor([[-1.349859 / 4] * 2, [0.0, 0.0]], dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert metrics["clip/low_fraction"].item() == 0.5  # one of two sequences
    assert metrics["clip/high_fraction"].item() == 0.0


def test_gspo_token_form_equals_gspo_when_the_advantage_is_one_per_response() -> None:
    for seed in range(20):
        batch = random_batch(seed, spread=0.1)
        results = []
        for form in (gspo_loss, gspo_token_loss):
            logp = batch.logp.clone().requires_grad_()
            loss, metrics = form(
                logp, batch.old_logp, batch.adv, batch.mask, clip_low=0.02, clip_high=0.03, denominator=batch.sequences
            )
            results.append((loss.detach(), *torch.autograd.grad(loss, logp), metrics))
        torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-15)


def test_gspo_token_form_differs_when_weights_vary_inside_a_response() -> None:
    batch = random_batch(3)
    assert not torch.allclose(gradient("gspo", batch)[1], gradient("gspo_token", batch)[1])


def test_a_clip_meant_for_tokens_never_binds_on_sequence_ratios() -> None:
    # The trap: with GSPO's ratios (1 +- 1e-3) a clip of 0.2 clips nothing, 3e-4/4e-4 clips most.
    batch = random_batch(0, rows=40, columns=50, spread=0.005)
    tensors = batch.logp, batch.old_logp, batch.adv, batch.mask
    _, wide = gspo_loss(*tensors, clip_low=0.2, clip_high=0.28, denominator=batch.sequences)
    _, narrow = gspo_loss(*tensors, clip_low=3e-4, clip_high=4e-4, denominator=batch.sequences)
    assert wide["clip/low_fraction"] + wide["clip/high_fraction"] == 0
    assert narrow["clip/low_fraction"] + narrow["clip/high_fraction"] > 0.2


@pytest.mark.parametrize("name", ["dapo", "gspo", "gspo_token", "grpo", "cispo", "sapo"])
def test_on_policy_step_is_the_plain_policy_gradient(name: str) -> None:
    # old = new: every ratio is 1, nothing clips, and d/dlogp of the loss is -w A / count.
    batch = random_batch(1)
    batch = Batch(batch.logp, batch.logp.clone(), batch.adv, batch.mask, torch.ones_like(batch.weight))
    _, grad = gradient(name, batch)
    keep = batch.mask.double()
    share = keep / batch.tokens
    if name in ("gspo", "gspo_token", "grpo", "sapo"):
        share = keep / keep.sum(1, keepdim=True).clamp(min=1) / batch.sequences
    torch.testing.assert_close(grad, -batch.adv * share)


def test_advantages_may_be_one_per_response() -> None:
    batch = random_batch(2)
    losses = [
        dapo_loss(batch.logp, batch.old_logp, adv, batch.mask, clip_low=0.2, clip_high=0.28, denominator=batch.tokens)[
            0
        ]
        for adv in (batch.adv, batch.adv[:, :1], batch.adv[:, 0])
    ]
    assert losses[0] == losses[1] == losses[2]


def test_packed_tokens_give_the_same_dapo_loss_as_padded_rows() -> None:
    batch = random_batch(4)
    keep = batch.mask
    settings: dict[str, Any] = {"clip_low": 0.2, "clip_high": 0.28, "denominator": batch.tokens}
    padded, _ = dapo_loss(batch.logp, batch.old_logp, batch.adv, keep, **settings)
    packed, _ = dapo_loss(batch.logp[keep], batch.old_logp[keep], batch.adv[keep], keep[keep], **settings)
    torch.testing.assert_close(padded, packed)


@pytest.mark.parametrize("form", [gspo_loss, gspo_token_loss, grpo_loss])
def test_packed_tokens_are_refused_where_a_response_must_be_a_row(form: Callable[..., object]) -> None:
    one = torch.ones(5)
    with pytest.raises(ValueError, match="not packed"):
        form(one, one, one, one, clip_low=0.2, clip_high=0.28, denominator=5)


def test_a_shape_that_would_broadcast_is_refused() -> None:
    batch = random_batch(0)
    with pytest.raises(ValueError, match=r"old_logp has shape \(7,\), logp has \(5, 7\)"):
        dapo_loss(batch.logp, batch.old_logp[0], batch.adv, batch.mask, clip_low=0.2, clip_high=0.28, denominator=1)
    with pytest.raises(ValueError, match="adv has shape"):
        dapo_loss(batch.logp, batch.old_logp, batch.adv[0], batch.mask, clip_low=0.2, clip_high=0.28, denominator=1)
    with pytest.raises(ValueError, match="denominator is 0"):
        dapo_loss(batch.logp, batch.old_logp, batch.adv, batch.mask, clip_low=0.2, clip_high=0.28, denominator=0)
    with pytest.raises(ValueError, match="dual_clip is 1"):
        dapo_loss(
            batch.logp,
            batch.old_logp,
            batch.adv,
            batch.mask,
            clip_low=0.2,
            clip_high=0.28,
            denominator=1,
            dual_clip=1.0,
        )


def test_nll_is_a_token_mean_or_a_sample_sum_by_its_denominator() -> None:
    # logp: row 0: -1, -2, -3; row 1: -4. Token mean: 10 / 4 = 2.5; mean over samples of sums: (6 + 4) / 2 = 5.
    logp = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, float("-inf"), float("nan")]], requires_grad=True)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    token_mean, metrics = nll_loss(logp, mask, denominator=4)
    sample_sum, _ = nll_loss(logp, mask, denominator=2)
    assert (token_mean.item(), sample_sum.item()) == (2.5, 5.0)
    assert (metrics["nll/sum"].item(), metrics["nll/tokens"].item()) == (10.0, 4.0)
    (grad,) = torch.autograd.grad(token_mean, logp)
    assert grad.tolist() == [[-0.25, -0.25, -0.25], [-0.25, 0.0, 0.0]]
    with pytest.raises(ValueError, match="mask has shape"):
        nll_loss(logp, mask[0], denominator=4)
