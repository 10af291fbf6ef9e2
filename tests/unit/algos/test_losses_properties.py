"""What must hold for every loss whatever the numbers: splits do not matter, masked positions do not matter, and nothing
but NaN gives NaN."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sailrl.algos.nll import nll_loss
from sailrl.algos.reduce import is_max_metric, merge_metrics
from tests.unit.algos.by_hand import Batch, random_batch
from tests.unit.algos.loss_table import LOSSES

names = st.sampled_from(sorted(LOSSES))
seeds = st.integers(0, 10_000)


class TinyPolicy:
    """logp = -softplus(x * theta) with two parameters: enough for gradients of parts to be added up in one place."""

    def __init__(self, batch: Batch) -> None:
        self.theta = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
        self.features = torch.stack([batch.logp, batch.old_logp], dim=-1)

    def logp(self, rows: list[int]) -> Tensor:
        return -torch.nn.functional.softplus(self.features[rows] @ self.theta)

    def gradient(self, loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, self.theta)[0]


@settings(max_examples=150, deadline=None)
@given(name=names, seed=seeds, rows=st.integers(1, 7), data=st.data())
def test_gradient_and_metrics_are_the_same_for_every_split_into_micro_batches_and_ranks(
    name: str, seed: int, rows: int, data: st.DataObject
) -> None:
    batch = random_batch(seed, rows=rows)
    policy = TinyPolicy(batch)
    part_of_row = data.draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))  # (rank, micro-batch), flattened
    parts = [[row for row in range(rows) if part_of_row[row] == part] for part in sorted(set(part_of_row))]
    everything = list(range(rows))
    loss, metrics = LOSSES[name](policy.logp(everything), batch, batch)
    pieces = [LOSSES[name](policy.logp(part), batch.rows(part), batch) for part in parts]
    torch.testing.assert_close(sum(piece for piece, _ in pieces), loss, rtol=1e-10, atol=1e-12)
    summed = sum(policy.gradient(piece) for piece, _ in pieces)
    torch.testing.assert_close(summed, policy.gradient(loss), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(merge_metrics(*(m for _, m in pieces)), metrics, rtol=1e-10, atol=1e-12)


def test_the_naive_mean_of_micro_batch_means_is_a_different_gradient() -> None:
    # Negative control. On-policy, A = 1: a token of a 1-token response and the four of a 4-token response. The gradient
    # of a token is -1/5 by the global count; as the mean of two local means it would be -1/2 and -1/8.
    logp = torch.zeros(2, 4, dtype=torch.float64)
    mask = torch.tensor([[True, False, False, False], [True] * 4])
    batch = Batch(logp, logp.clone(), torch.ones_like(logp), mask, torch.ones_like(logp))

    def token_gradients(denominators: list[Batch], factor: float) -> list[float]:
        out = []
        for row, whole in enumerate(denominators):
            leaf = logp[[row]].clone().requires_grad_()
            loss, _ = LOSSES["dapo"](leaf, batch.rows([row]), whole)
            out.append(torch.autograd.grad(loss * factor, leaf)[0][0, 0].item())
        return out

    assert token_gradients([batch, batch], 1.0) == pytest.approx([-1 / 5, -1 / 5])
    assert token_gradients([batch.rows([0]), batch.rows([1])], 0.5) == pytest.approx([-1 / 2, -1 / 8])


extreme = st.sampled_from([0.0, 1e-6, -1e-3, 0.3, -0.3, 5.0, -5.0, 19.9, 25.0, -25.0, 1e4, -1e4])
junk = st.sampled_from([float("-inf"), float("inf"), float("nan"), 1e30, 0.0])


@settings(max_examples=300, deadline=None)
@given(name=names, dtype=st.sampled_from([torch.float32, torch.float64]), data=st.data())
def test_extreme_ratios_and_junk_under_the_mask_never_give_nan_or_inf(
    name: str, dtype: torch.dtype, data: st.DataObject
) -> None:
    rows, columns = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))

    def table(values: st.SearchStrategy[float]) -> Tensor:
        flat = data.draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))
        return torch.tensor(flat, dtype=dtype).view(rows, columns)

    mask = table(st.sampled_from([0.0, 1.0])).bool()
    ratio, adv = table(extreme), table(st.sampled_from([-2.0, 0.0, 1.0]))[:, :1].expand(rows, columns)
    logp = torch.where(mask, ratio.clamp(max=0), table(junk))  # log-probabilities are never above 0
    old_logp = torch.where(mask, (-ratio).clamp(max=0), table(junk))
    weight = torch.where(mask, 1.0, table(junk)).to(dtype)
    adv = torch.where(mask, adv, table(junk))
    batch = Batch(logp, old_logp, adv, mask, weight)
    leaf = logp.clone().requires_grad_()
    loss, metrics = LOSSES[name](leaf, batch, batch)
    (grad,) = torch.autograd.grad(loss, leaf)
    assert loss.isfinite()
    assert grad.isfinite().all()
    assert (grad[~mask] == 0).all()
    assert all(value.isfinite() for value in metrics.values())


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_an_impossible_token_stops_its_gradient_instead_of_poisoning_the_batch(name: str) -> None:
    batch = random_batch(0)
    leaf = batch.logp.clone()
    leaf[0, 1] = float("-inf")
    leaf.requires_grad_()
    loss, _ = LOSSES[name](leaf, batch, batch)
    (grad,) = torch.autograd.grad(loss, leaf)
    assert loss.isfinite()
    assert grad.isfinite().all()
    assert grad[0, 1] == 0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_nan_log_probability_that_counts_is_never_hidden(name: str) -> None:
    # Negative control of the two tests above: safety must not swallow a sick model.
    batch = random_batch(0)
    leaf = batch.logp.clone()
    leaf[0, 1] = float("nan")
    assert LOSSES[name](leaf, batch, batch)[0].isnan()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_fully_masked_row_contributes_nothing(name: str) -> None:
    batch = random_batch(5)
    mask = torch.cat([batch.mask, torch.zeros_like(batch.mask[:1])])
    longer = Batch(
        torch.cat([batch.logp, batch.logp[:1]]),
        torch.cat([batch.old_logp, batch.old_logp[:1]]),
        torch.cat([batch.adv, batch.adv[:1]]),
        mask,
        torch.cat([batch.weight, batch.weight[:1]]),
    )
    torch.testing.assert_close(LOSSES[name](longer.logp, longer, longer), LOSSES[name](batch.logp, batch, batch))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_batch_without_a_single_token_has_loss_zero_and_gradient_zero(name: str) -> None:
    batch = random_batch(5)
    batch = Batch(batch.logp, batch.old_logp, batch.adv, torch.zeros_like(batch.mask), batch.weight)
    leaf = batch.logp.clone().requires_grad_()
    loss, metrics = LOSSES[name](leaf, batch, batch)
    assert loss == 0
    assert (torch.autograd.grad(loss, leaf)[0] == 0).all()
    assert all(value == 0 for value in metrics.values())


@pytest.mark.parametrize("name", ["dapo", "gspo", "gspo_token", "grpo"])
def test_one_single_token_is_the_same_under_every_normalisation(name: str) -> None:
    # One token, ratio e^0.01 = 1.010050, A = 2: -2.020100 for all of them.
    one = torch.ones(1, 1, dtype=torch.float64)
    batch = Batch(-one, -1.01 * one, 2 * one, one.bool(), one)
    assert LOSSES[name](batch.logp, batch, batch)[0].item() == pytest.approx(-2.0201003, abs=1e-7)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_metrics_are_detached_numbers(name: str) -> None:
    batch = random_batch(5)
    _, metrics = LOSSES[name](batch.logp.clone().requires_grad_(), batch, batch)
    assert all(value.dim() == 0 and not value.requires_grad for value in metrics.values())


def test_nll_is_the_same_for_every_split() -> None:
    batch = random_batch(6)
    whole, metrics = nll_loss(batch.logp, batch.mask, denominator=batch.tokens)
    parts = [nll_loss(batch.logp[rows], batch.mask[rows], denominator=batch.tokens) for rows in ([0, 3], [1, 2, 4])]
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole)
    torch.testing.assert_close(merge_metrics(parts[0][1], parts[1][1]), metrics)


def test_metrics_named_max_are_joined_by_maximum_and_others_add_up() -> None:
    assert is_max_metric("ratio/max")
    assert is_max_metric("mismatch/max_abs_dlogp")
    assert not is_max_metric("clip/high_fraction")
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    merged = merge_metrics({"ratio/max": one, "ratio/mean": one}, {"ratio/max": two, "ratio/mean": two, "new": two})
    assert merged == {"ratio/max": 2.0, "ratio/mean": 3.0, "new": 2.0}
