"""Engine against learner: every correction and every metric on numbers a pencil can check."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sailrl.algos.dapo import dapo_loss
from sailrl.algos.mismatch import (
    correction_metrics,
    derived_metrics,
    dlogp_histogram,
    effective_share,
    geometric_mask,
    icepop,
    mismatch_metrics,
    percentile,
    sequence_mask,
    token_tis,
    veto,
)
from sailrl.algos.reduce import merge_metrics

# k per token; the last position of the second row is masked and holds a value that would spoil everything.
K = torch.tensor([[1.0, 4.0, 0.5], [0.25, 1.0, 1.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, True], [True, True, False]])
OLD = K.log()
ENGINE = torch.zeros_like(K)
OLD[1, 2], ENGINE[1, 2] = float("nan"), float("-inf")


def test_token_tis_truncates_above() -> None:
    assert token_tis(OLD, ENGINE, MASK, cap=2.0).tolist() == [[1.0, 2.0, 0.5], [0.25, 1.0, 0.0]]


def test_icepop_drops_outside_its_bounds_on_both_sides() -> None:
    weight = icepop(OLD, ENGINE, MASK, low=0.5, high=3.0)
    torch.testing.assert_close(weight, torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]], dtype=torch.float64))


def test_sequence_mask_keeps_rows_by_their_product() -> None:
    assert sequence_mask(OLD, ENGINE, MASK, high=3.0).tolist() == [[1, 1, 1], [1, 1, 0]]
    assert sequence_mask(OLD, ENGINE, MASK, high=1.5).tolist() == [[0, 0, 0], [1, 1, 0]]
    assert sequence_mask(OLD, ENGINE, MASK, low=0.5).tolist() == [[1, 1, 1], [0, 0, 0]]


def test_geometric_mask_does_not_depend_on_length() -> None:
    # Geometric means: 2^(1/3) = 1.26; 0.25^(1/2) = 0.5.
    assert geometric_mask(OLD, ENGINE, MASK, low=0.6, high=1.3).tolist() == [[1, 1, 1], [0, 0, 0]]
    assert geometric_mask(OLD, ENGINE, MASK, low=0.4, high=1.2).tolist() == [[0, 0, 0], [1, 1, 0]]
    # 2,000 tokens, each 1 % more likely for the learner: the product is e^20, the geometric mean 1.01.
    long = torch.full((1, 2000), 0.01)
    nothing, every = torch.zeros_like(long), torch.ones_like(long)
    assert geometric_mask(long, nothing, every, low=0.98, high=1.02).all()
    assert not sequence_mask(long, nothing, every, high=3.0).any()


def test_veto_drops_the_whole_row_for_one_impossible_token() -> None:
    engine = ENGINE.clone()
    engine[0, 1] = OLD[0, 1] + 10  # k = e^-10 = 4.5e-5
    assert veto(OLD, engine, MASK).tolist() == [[0, 0, 0], [1, 1, 0]]
    assert veto(OLD, engine, MASK, below=1e-5).tolist() == [[1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize("correct", [sequence_mask, geometric_mask, veto])
def test_packed_tokens_are_refused_where_a_response_must_be_a_row(correct: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="not packed"):
        correct(OLD.flatten(), ENGINE.flatten(), MASK.flatten())


def test_corrections_combine_by_multiplication() -> None:
    weight = token_tis(OLD, ENGINE, MASK) * sequence_mask(OLD, ENGINE, MASK, high=1.5)
    assert weight.tolist() == [[0.0, 0.0, 0.0], [0.25, 1.0, 0.0]]


def test_agreement_leaves_every_weight_at_one() -> None:
    agree = torch.full((2, 3), -1.5)
    for correct in (token_tis, icepop, sequence_mask, geometric_mask, veto):
        assert torch.equal(correct(agree, agree, MASK), MASK.float())


def test_weights_scale_the_loss_and_carry_no_gradient() -> None:
    # Three tokens, A = 1, on-policy, weights 1, 2, 0.5: -(1 + 2 + 0.5) / 3, and the slopes are the weights over -3.
    logp = OLD[:1].clone().requires_grad_()
    weight = token_tis(logp, ENGINE[:1], MASK[:1])
    adv = torch.ones_like(logp)
    settings_: dict[str, Any] = {"clip_low": 0.2, "clip_high": 0.28, "denominator": 3, "weight": weight}
    loss, _ = dapo_loss(logp, logp.detach(), adv, MASK[:1], **settings_)
    assert loss.item() == pytest.approx(-3.5 / 3)
    assert torch.autograd.grad(loss, logp)[0].tolist() == [pytest.approx([-1 / 3, -2 / 3, -0.5 / 3])]


def test_metrics_on_five_tokens() -> None:
    metrics = mismatch_metrics(OLD, ENGINE, MASK, denominator=5)
    values = {name: value.item() for name, value in metrics.items()}
    ln2 = math.log(2)
    # log k: 0, 2 ln 2, -ln 2, -2 ln 2, 0
    assert values["mismatch/mean_abs_dlogp"] == pytest.approx(ln2)  # (2 + 1 + 2) ln 2 / 5
    assert values["mismatch/max_abs_dlogp"] == pytest.approx(2 * ln2)
    assert values["mismatch/outside_fraction"] == 0.4  # 4 and 0.25; the bounds themselves are inside
    # k - 1 - log k: 0; 3 - 2 ln 2; -0.5 + ln 2; -0.75 + 2 ln 2; 0. Sum 1.75 + ln 2.
    assert values["mismatch/k3"] == pytest.approx((1.75 + ln2) / 5)
    # Effective share: (1 + 4 + 0.5 + 0.25 + 1)^2 / (5 * (1 + 16 + 0.25 + 0.0625 + 1)) = 45.5625 / 91.5625
    assert effective_share(metrics) == pytest.approx(45.5625 / 91.5625)


def test_what_a_correction_did_is_counted() -> None:
    weight = icepop(OLD, ENGINE, MASK, low=0.5, high=5.0).clamp(max=2.0)  # drops 0.25, caps 4
    metrics = correction_metrics(weight, OLD, ENGINE, MASK, denominator=5)
    assert metrics["mismatch/dropped_fraction"].item() == pytest.approx(1 / 5)
    assert metrics["mismatch/capped_fraction"].item() == pytest.approx(1 / 5)
    assert metrics["mismatch/weight_mean"].item() == pytest.approx((1 + 2 + 0.5 + 1) / 5)


def test_metrics_of_parts_join_to_the_metrics_of_the_whole() -> None:
    parts = [mismatch_metrics(OLD[[i]], ENGINE[[i]], MASK[[i]], denominator=5) for i in (0, 1)]
    torch.testing.assert_close(merge_metrics(*parts), mismatch_metrics(OLD, ENGINE, MASK, denominator=5))


def test_percentiles_of_summed_histograms_are_those_of_all_tokens() -> None:
    draw = torch.Generator().manual_seed(0)
    distance = torch.randn(4, 5000, generator=draw, dtype=torch.float64).abs() * 1e-3
    mask, zero = torch.rand(4, 5000, generator=draw) < 0.9, torch.zeros_like(distance)
    histogram = sum(dlogp_histogram(distance[[i]], zero[[i]], mask[[i]]) for i in range(4))
    assert isinstance(histogram, Tensor)
    assert histogram.sum() == mask.sum()
    for q in (0.5, 0.99):
        assert percentile(histogram, q) == pytest.approx(distance[mask].quantile(q).item(), rel=0.05)


def test_what_cannot_be_added_up_is_derived_from_what_can() -> None:
    metrics = mismatch_metrics(OLD, ENGINE, MASK, denominator=5)
    derived = derived_metrics(metrics, dlogp_histogram(OLD, ENGINE, MASK))
    # |log k| sorted: 0, 0, ln 2, 2 ln 2, 2 ln 2: the middle is ln 2, the 99th percentile 2 ln 2.
    assert derived == {
        "mismatch/ess": pytest.approx(45.5625 / 91.5625),
        "mismatch/p50_abs_dlogp": pytest.approx(math.log(2), rel=0.05),
        "mismatch/p99_abs_dlogp": pytest.approx(2 * math.log(2), rel=0.05),
    }
    nothing = mismatch_metrics(OLD, ENGINE, torch.zeros_like(MASK), denominator=5)
    assert effective_share(nothing) == 0.0


def test_percentiles_at_the_ends() -> None:
    one = torch.ones(1, 1)
    assert percentile(dlogp_histogram(one, one, one), 0.99) < 1.1e-8  # no difference at all: the first bin
    assert percentile(dlogp_histogram(one, one, 0 * one), 0.99) == 0.0  # no tokens
    assert percentile(dlogp_histogram(1e6 * one, one, one), 0.5) == pytest.approx(100.0)  # the last bin


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1e4, -1e4, 25.0, -25.0, 1e-3]), min_size=1, max_size=8))
def test_extreme_differences_never_give_nan_or_inf_in_weights(log_k: list[float]) -> None:
    old = torch.tensor([log_k])
    engine, mask = torch.zeros_like(old), torch.ones_like(old)
    for correct in (token_tis, icepop, sequence_mask, geometric_mask, veto):
        assert correct(old, engine, mask).isfinite().all()
    metrics = mismatch_metrics(old, engine, mask, denominator=len(log_k))
    assert all(value.isfinite() for value in metrics.values())
