"""The sampler shuffles every epoch anew and resumes at any position."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sailrl.data.sampler import ShufflingSampler
from sailrl.errors import DataError


@given(n=st.integers(1, 20), seed=st.integers(0, 5), epochs=st.integers(1, 3))
def test_every_epoch_draws_each_problem_once(n: int, seed: int, epochs: int) -> None:
    sampler = ShufflingSampler(n, seed)
    for _ in range(epochs):
        assert sorted(sampler.take(n)) == list(range(n))


def test_epochs_are_shuffled_differently() -> None:
    sampler = ShufflingSampler(50, seed=0)
    first, second = sampler.take(50), sampler.take(50)
    assert first != second
    assert first != list(range(50))


def test_neighbouring_seeds_share_no_epoch() -> None:
    # With Random(seed + epoch), seed 0's second epoch would be seed 1's first.
    zero, one = ShufflingSampler(50, seed=0), ShufflingSampler(50, seed=1)
    zero.take(50)
    assert zero.take(50) != one.take(50)


def test_the_order_is_fixed_for_all_time() -> None:
    # A changed order would silently break the resumption of older runs.
    assert ShufflingSampler(5, seed=0).take(12) == [2, 1, 0, 3, 4, 0, 3, 2, 1, 4, 0, 4]


def test_one_draw_may_reach_over_several_epochs() -> None:
    # 3 problems, 7 draws: two whole epochs and one problem more, so counts are 2, 2 and 3.
    assert sorted(Counter(ShufflingSampler(3, seed=4).take(7)).values()) == [2, 2, 3]


@given(
    n=st.integers(1, 7),
    seed=st.integers(0, 3),
    before=st.lists(st.integers(0, 9), max_size=4),
    after=st.lists(st.integers(0, 9), max_size=4),
)
def test_a_resumed_sampler_goes_on_as_if_nothing_had_happened(
    n: int, seed: int, before: list[int], after: list[int]
) -> None:
    whole, saved = ShufflingSampler(n, seed), ShufflingSampler(n, seed)
    for k in before:
        whole.take(k)
        saved.take(k)
    state = json.loads(json.dumps(saved.state_dict()))
    resumed = ShufflingSampler(n, seed)
    resumed.take(3)  # whatever it did before loading does not matter
    resumed.load_state_dict(state)
    assert [resumed.take(k) for k in after] == [whole.take(k) for k in after]


def test_the_size_of_draws_does_not_change_the_order() -> None:
    one, many = ShufflingSampler(5, seed=9), ShufflingSampler(5, seed=9)
    assert one.take(12) == many.take(4) + many.take(0) + many.take(8)


def test_drawing_nothing_changes_nothing() -> None:
    sampler = ShufflingSampler(4, seed=0)
    before = sampler.state_dict()
    assert sampler.take(0) == []
    assert sampler.state_dict() == before


def test_a_state_of_other_data_is_refused_with_both_numbers() -> None:
    state = ShufflingSampler(10, seed=0).state_dict()
    with pytest.raises(DataError, match=r"was drawing from 10 problems, but the data now has 11"):
        ShufflingSampler(11, seed=0).load_state_dict(state)


def test_a_state_of_another_seed_is_refused_with_both_seeds() -> None:
    state = ShufflingSampler(10, seed=1).state_dict()
    with pytest.raises(DataError, match=r"has seed 1, but run.seed is 2.*set run.seed=1"):
        ShufflingSampler(10, seed=2).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": -1}, "damaged: epoch -1, position 0 of 10"),
        ({"position": 11}, "damaged: epoch 0, position 11 of 10"),
        ({"position": "3"}, "lacks a whole number for position"),
        ({"epoch": None, "seed": True}, "lacks a whole number for seed, epoch"),
    ],
)
def test_a_damaged_state_is_refused(change: dict[str, object], message: str) -> None:
    sampler = ShufflingSampler(10, seed=0)
    with pytest.raises(DataError, match=message):
        sampler.load_state_dict(sampler.state_dict() | change)


def test_a_refused_state_leaves_the_sampler_as_it_was() -> None:
    sampler = ShufflingSampler(10, seed=0)
    sampler.take(3)
    before = sampler.state_dict()
    with pytest.raises(DataError):
        sampler.load_state_dict(before | {"position": 99})
    assert sampler.state_dict() == before


def test_there_must_be_something_to_draw_from() -> None:
    with pytest.raises(DataError, match=r"there are 0 problems to draw from"):
        ShufflingSampler(0, seed=0)
