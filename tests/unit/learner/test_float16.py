"""float16 with a loss scale: gradients that would vanish do not, and those that overflow cost one step, not the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sailrl.errors import LearnerError
from sailrl.learner.learner import Learner
from sailrl.learner.loss_scale import FIRST, GROWTH_INTERVAL, LossScale
from tests.fakes.tiny_learner import make_learner, make_samples, make_scope, same, weights

SAMPLES = make_samples(6)
HUGE = [replace(SAMPLES[0], advantage=1e7), *SAMPLES[1:]]
"""A finite loss; its gradient, 65,536 times as large, is beyond float16's 65,504."""


def _learner(folder: Path, *, dtype: str = "float16", scale: float | None = None, **config: Any) -> Learner:
    learner = make_learner(folder, dtype=dtype, **config)
    if scale is not None:
        learner.loss_scale.value = scale
    return learner


def _update(learner: Learner, samples: list[Any] = SAMPLES, *, tokens: float = 1.0) -> dict[str, float]:
    """One update; ``tokens`` times as many are behind it as there are here, on other ranks."""
    learner.set_episode(samples)
    scope = make_scope(samples)
    return learner.update(range(len(samples)), replace(scope, tokens=int(tokens * scope.tokens)))


def _first_moments(learner: Learner) -> torch.Tensor:
    """All of them, flat. After the first update they are its gradient before clipping, times 1 - 0.9."""
    return torch.cat([learner.optimizer.state[p]["exp_avg"].flatten() for p in learner.policy.parameters()])


def _gradient(folder: Path, *, tokens: float = 1.0, **options: Any) -> torch.Tensor:
    learner = _learner(folder, grad_clip=1e9, **options)
    _update(learner, tokens=tokens)
    return _first_moments(learner)


def _error(mine: torch.Tensor, exact: torch.Tensor) -> float:
    return float((mine - exact).norm() / exact.norm())


def test_a_gradient_in_float16_is_closer_to_float32_than_one_in_bfloat16(tiny_folder: Path) -> None:
    """10 bits of mantissa instead of 7: about 8 times."""
    exact = _gradient(tiny_folder, dtype="float32")
    half, brain = (_error(_gradient(tiny_folder, dtype=dtype), exact) for dtype in ("float16", "bfloat16"))
    assert 0 < half < 1e-3
    assert brain > 4 * half


def test_gradients_of_an_update_with_very_many_tokens_vanish_unless_the_loss_is_scaled(tiny_folder: Path) -> None:
    exact = _gradient(tiny_folder, dtype="float32", tokens=1e6)
    assert _error(_gradient(tiny_folder, tokens=1e6), exact) < 0.01
    unscaled = _gradient(tiny_folder, tokens=1e6, scale=1.0)
    assert _error(unscaled, exact) > 0.3
    assert (unscaled == 0).sum() > 2 * (exact == 0).sum()


def test_norms_and_clipping_are_those_of_unscaled_gradients(tiny_folder: Path) -> None:
    """A scale is a power of two, which multiplies and divides without rounding where nothing vanishes."""
    outcomes = []
    for scale in (2.0**10, 2.0**14):
        learner = _learner(tiny_folder, scale=scale, grad_clip=0.1)
        outcomes.append(_update(learner) | {"moments": float(_first_moments(learner).norm())})
        assert outcomes[-1]["loss_scale"] == scale
    plain = _update(_learner(tiny_folder, dtype="float32", grad_clip=0.1))
    for outcome in outcomes:
        assert outcome["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-3)
        assert outcome["grad_norm"] > 0.5
        assert outcome["moments"] == pytest.approx(0.1 * 0.1, rel=1e-3)  # clipped to 0.1, times 1 - 0.9


def test_an_overflow_skips_the_step_and_halves_the_scale(tiny_folder: Path) -> None:
    learner, twin = _learner(tiny_folder), _learner(tiny_folder, scale=2.0**15)
    before = weights(learner)
    skipped = _update(learner, HUGE)
    assert (skipped["skipped"], skipped["loss_scale"]) == (1.0, 2.0**16)
    assert not np.isfinite(skipped["grad_norm"])
    assert np.isfinite(skipped["loss"])
    assert same(weights(learner), before)
    assert (learner.updates, dict(learner.optimizer.state)) == (0, {})

    # Nothing of it is left: what follows is what a learner with half the scale does that has never seen it.
    assert _update(learner) == _update(twin)
    assert same(weights(learner), weights(twin))
    assert not same(weights(learner), before)
    assert learner.updates == 1


@given(st.lists(st.integers(0, 2 * GROWTH_INTERVAL), max_size=6))
def test_the_scale_moves_as_torchs_own_does(runs: list[int]) -> None:
    """So many updates that go well, then one that overflows, and so on."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter])
    theirs, mine = torch.amp.GradScaler("cpu", FIRST, growth_interval=GROWTH_INTERVAL), LossScale(torch.float16)
    theirs.scale(parameter)  # makes its tensors
    for finite in (finite for run in runs for finite in [True] * run + [False]):
        parameter.grad = torch.tensor([1.0 if finite else torch.inf])
        theirs.unscale_(optimizer)
        theirs.update()
        mine.adapt(finite=finite)
        assert mine.value == theirs.get_scale()


def test_the_scale_does_not_fall_below_1() -> None:
    scale = LossScale(torch.float16)
    for _ in range(20):
        scale.adapt(finite=False)
    assert scale.value == 1.0


def test_what_no_scale_can_help_is_an_error_at_once(tiny_folder: Path) -> None:
    for broken, scale in ((np.nan, 2.0**16), (1e12, 1.0)):
        learner = _learner(tiny_folder, scale=scale)
        before = weights(learner)
        with pytest.raises(LearnerError, match=r"gradient norm of update 1 is (nan|inf).*model.dtype=bfloat16"):
            _update(learner, [replace(SAMPLES[0], advantage=broken), *SAMPLES[1:]])
        assert same(weights(learner), before)
        assert _update(learner)["skipped"] == 0.0  # and nothing of it is left for the next update


def test_other_precisions_have_no_scale(tiny_folder: Path, tmp_path: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        learner = _learner(tiny_folder, dtype=dtype)
        assert not {"loss_scale", "skipped"} & _update(learner).keys()
        learner.save(tmp_path)
        assert json.loads((tmp_path / "learner.json").read_text()).keys() == {"updates", "pieces"}


def test_a_restored_learner_goes_on_with_its_scale_bit_for_bit(tiny_folder: Path, tmp_path: Path) -> None:
    learner = _learner(tiny_folder)
    for samples in (HUGE, SAMPLES):
        _update(learner, samples)
    assert (learner.loss_scale.value, learner.loss_scale.good_updates) == (2.0**15, 1)
    learner.loss_scale.good_updates = GROWTH_INTERVAL - 1  # as if many more had gone well
    learner.save(tmp_path)
    resumed = _learner(tmp_path / "model")
    resumed.restore(tmp_path)
    assert resumed.updates == learner.updates == 1
    for expected in (2.0**15, 2.0**16):  # the first update in a row of 200 doubles it for the second
        on, again = _update(learner), _update(resumed)
        assert on == again
        assert on["loss_scale"] == expected
    assert same(weights(learner), weights(resumed))


def test_a_run_that_goes_on_in_float16_starts_a_scale_of_its_own(tiny_folder: Path, tmp_path: Path) -> None:
    learner = _learner(tiny_folder, dtype="bfloat16")
    _update(learner)
    learner.save(tmp_path)
    resumed = _learner(tmp_path / "model")
    resumed.restore(tmp_path)
    assert _update(resumed)["loss_scale"] == 2.0**16
    assert resumed.updates == 2
