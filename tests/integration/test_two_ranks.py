"""The tiny demo on two learner ranks that share the weights: it starts as on one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import SHORT, Finished, run

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]


def test_the_first_episode_on_two_ranks_is_that_on_one(tiny_run: Finished, fresh_folder: Callable[[], Path]) -> None:
    """The same responses, since the engine is seeded, and four updates on them that differ by rounding."""
    done = run(fresh_folder(), *SHORT, "learner.ranks=2", "batch.episodes=1")
    assert done.code == 0, done.output
    two, one = ([line for line in part.metrics() if "grad_norm" in line][:4] for part in (done, tiny_run))
    assert [line["step"] for line in two] == [1, 2, 3, 4]
    for mine, theirs in zip(two, one, strict=True):
        for name in ("reward/mean", "grad_norm", "entropy", "loss"):
            rounding = 1e-4 if mine["step"] == 1 else 1e-2  # Adam makes a whole step of a gradient that is rounding
            assert mine[name] == pytest.approx(theirs[name], rel=rounding, abs=rounding / 10), name
    assert two[-1]["sync/max_abs_dlogp"] < 1e-4  # what the engine was given is what the ranks hold together
