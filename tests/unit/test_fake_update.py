"""The memory plan against torch's own count, on toys whose tensors have shapes only."""

from __future__ import annotations

import pytest

from benchmarks.fake_update import count


@pytest.mark.parametrize(
    "case", ["8b", pytest.param("a3b", marks=pytest.mark.long), pytest.param("sft", marks=pytest.mark.long)]
)
def test_the_plan_of_a_learner_is_near_what_torch_counts(case: str) -> None:
    passing, stepping = count(case, tiny=True)
    assert abs(passing.error) < 0.20
    assert abs(stepping.error) < 0.15
    # The control: at half the ranks a rank has about twice the moments, and the count sees it.
    _, twice = count(case, tiny=True, ranks=8 if case == "a3b" else 4)
    assert 1.7 < twice.counted / stepping.counted < 2.1
