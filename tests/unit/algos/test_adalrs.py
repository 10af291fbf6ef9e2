"""The search for a learning rate: slopes by least squares, one rate kept, one undone, and never past its window."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sailrl.algos.adalrs import Action, AdaLrs, descent


def _search(**given: Any) -> AdaLrs:
    return AdaLrs(**{"window": 2, "first": 0, "last": 100, "margin": 0.05, **given})


def _feed(search: AdaLrs, *losses: float) -> list[Action]:
    return [search.observe(loss) for loss in losses]


def test_descent_is_the_slope_of_least_squares_downwards() -> None:
    assert descent([5.0, 4.5, 4.0]) == pytest.approx(0.5)
    # Around t = 1: (-1)(1) + (0)(0) + (1)(2) = 1, over 1 + 0 + 1 = 2, rising by 1/2.
    assert descent([1.0, 0.0, 2.0]) == pytest.approx(-0.5)


def test_a_rate_at_which_the_loss_falls_faster_stays() -> None:
    search = _search()
    assert _feed(search, 5.0, 4.9) == ["go_on", "save"]  # falls by 0.1 per step
    assert search.factor == 3.0  # 0.99^0 * 3
    assert _feed(search, 4.8, 4.4) == ["go_on", "go_on"]  # 0.4 > 0.1 + 2 * 0.05
    assert search.factor == 3.0
    assert _feed(search, 4.3, 4.2)[-1] == "save"
    assert search.factor == pytest.approx(3.0 * 0.99 * 3)


def test_a_rate_at_which_it_falls_more_slowly_is_undone_and_the_one_before_lowered() -> None:
    search = _search()
    _feed(search, 5.0, 4.5)  # 0.5
    assert _feed(search, 4.5, 4.4) == ["go_on", "roll_back"]  # 0.1 < 0.5 - 0.1
    assert search.factor == 0.5  # 1 / (0.99^0 * 2)


def test_a_rate_that_makes_no_difference_is_undone_and_nothing_else() -> None:
    search = _search()
    _feed(search, 5.0, 4.5)
    assert _feed(search, 4.5, 4.05) == ["go_on", "roll_back"]  # 0.45 is within 0.1 of 0.5
    assert search.factor == 1.0


@pytest.mark.parametrize("loss", [5.1, math.nan, math.inf])
def test_a_loss_above_all_before_ends_a_trial_at_once(loss: float) -> None:
    search = _search(window=3)
    _feed(search, 5.0, 4.9, 4.8)
    assert search.observe(loss) == "roll_back"
    assert search.factor == 0.5


def test_it_begins_late_ends_early_and_never_leaves_a_trial_open() -> None:
    search = _search(first=2, last=6)
    actions = _feed(search, *[5.0 - 0.1 * i for i in range(12)])
    assert actions == ["go_on"] * 3 + ["save", "go_on", "roll_back"] + ["go_on"] * 6
    assert not search.trying


def test_its_state_is_all_it_needs() -> None:
    one = _search()
    _feed(one, 5.0, 4.9, 4.8)
    other = AdaLrs(**one.state_dict())
    assert _feed(one, 4.4, 4.3, 4.2) == _feed(other, 4.4, 4.3, 4.2)
    assert one == other
