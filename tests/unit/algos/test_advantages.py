"""Group advantages: the arithmetic, and what must be exactly zero."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sailrl.algos.advantages import group_advantages

NAN = float("nan")


def test_example_for_a_pencil() -> None:
    # Rewards 1, 0, 0, 1: mean 0.5, std (n - 1) = sqrt(4 * 0.25 / 3) = 0.577350; 0.5 / 0.577351 = 0.866024.
    adv = group_advantages(torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([5, 5, 5, 5]))
    assert adv.tolist() == pytest.approx([0.866024, -0.866024, -0.866024, 0.866024], abs=1e-6)
    # Dividing by n instead would give std 0.5 and advantages of 1.
    assert adv[0] != pytest.approx(1.0, abs=0.1)


def test_without_std_it_is_the_distance_from_the_mean() -> None:
    adv = group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([5, 5, 5, 5]), normalize_std=False)
    assert adv.tolist() == [0.75, -0.25, -0.25, -0.25]


def test_a_score_that_is_missing_leaves_the_group_and_is_not_a_zero() -> None:
    # Scored: 1, 0, 1: mean 2/3, std sqrt((2/9 + 4/9) / 2... ) = sqrt((1/9 + 4/9 + 1/9) / 2) = 0.577350.
    # (1 - 2/3) / 0.577350 = 0.577350 and (0 - 2/3) / 0.577350 = -1.154701. As a zero, nan would make the mean 1/2.
    adv = group_advantages(torch.tensor([1.0, 0.0, NAN, 1.0]), torch.tensor([1, 1, 1, 1]))
    assert adv.tolist() == pytest.approx([0.577349, -1.154699, 0.0, 0.577349], abs=1e-5)
    assert adv[2] == 0


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 1e6 + 0.1, -0.7])
@pytest.mark.parametrize("normalize_std", [True, False])
def test_a_constant_group_is_exactly_zero(value: float, normalize_std: bool) -> None:
    # Sums of 0.1 are not multiples of 0.1: without care the crumbs, over a std of crumbs, become advantages.
    adv = group_advantages(torch.full((7,), value), torch.zeros(7, dtype=torch.long), normalize_std=normalize_std)
    assert adv.tolist() == [0.0] * 7


def test_a_single_scored_member_has_nothing_to_compare_with() -> None:
    adv = group_advantages(torch.tensor([3.0, NAN, NAN, 5.0]), torch.tensor([1, 1, 2, 9]))
    assert adv.tolist() == [0.0, 0.0, 0.0, 0.0]


def test_shifting_or_scaling_the_rewards_of_a_group_changes_nothing() -> None:
    rewards, group = torch.tensor([0.0, 1.0, 0.25, 0.5], dtype=torch.float64), torch.tensor([0, 0, 0, 0])
    torch.testing.assert_close(
        group_advantages(3 * rewards + 7, group, eps=0.0), group_advantages(rewards, group, eps=0.0)
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, NAN]), st.sampled_from([-3, 0, 2, 10**12])),
        min_size=1,
        max_size=24,
    )
)
def test_any_mix_of_groups_equals_the_statistics_module(members: list[tuple[float, int]]) -> None:
    rewards = torch.tensor([reward for reward, _ in members], dtype=torch.float64)
    group = torch.tensor([number for _, number in members])
    expected = []
    for reward, number in members:
        scored = [r for r, other in members if other == number and not math.isnan(r)]
        if math.isnan(reward) or len(set(scored)) < 2:
            expected.append(0.0)
        else:
            expected.append((reward - statistics.fmean(scored)) / (statistics.stdev(scored) + 1e-6))
    assert group_advantages(rewards, group).tolist() == pytest.approx(expected, abs=1e-9)


def test_integers_become_floats_and_gradients_do_not_pass() -> None:
    adv = group_advantages(torch.tensor([1, 0]), torch.tensor([0, 0]))
    assert adv.dtype == torch.float32
    assert not group_advantages(torch.rand(3, requires_grad=True), torch.tensor([0, 0, 0])).requires_grad


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="must both be"):
        group_advantages(torch.zeros(3), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="must be integers"):
        group_advantages(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="infinite"):
        group_advantages(torch.tensor([1.0, float("inf")]), torch.tensor([0, 0]))
