"""The clip range over a run: bounds, direction, rest, resume."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sailrl.algos.clip import ClipController, ClipRange


def test_asymmetric_is_dapo_for_the_whole_run() -> None:
    control = ClipController(mode="asymmetric")
    assert {control.update(entropy) for entropy in (5.0, 0.1, 2.0)} | {control.range} == {ClipRange(0.20, 0.28)}


def test_adaptive_starts_as_dapo_and_rests_while_it_learns_its_target() -> None:
    control = ClipController()
    assert control.range == (0.20, 0.28)
    # Ten episodes that wander far: they set the target, 0.8 * 1.1 = 0.88, and move nothing.
    assert {control.update(entropy) for entropy in (2.0, 0.2, 2.0, 0.2, 2.0, 0.2, 2.0, 0.2, 2.0, 0.2)} == {(0.20, 0.28)}


def test_entropy_below_target_widens_and_above_narrows_by_one_step_per_episode() -> None:
    # Smoothing off, target 1.0: 1.2 is above -> 0.24 - 0.02 = 0.22; 0.8 is below -> 0.24, then 0.26.
    control = ClipController(target=1.0, ema=0.0, start=0.24)
    highs = [control.update(entropy).high for entropy in (1.2, 0.8, 0.8)]
    assert highs == pytest.approx([0.22, 0.24, 0.26])
    assert control.range.low == 0.20


@pytest.mark.parametrize(("signal", "value", "direction"), [("clip_fraction", 0.01, +1), ("approx_kl", 0.01, -1)])
def test_other_signals_too_many_clipped_tokens_widen_and_too_large_steps_narrow(
    signal: Any, value: float, direction: int
) -> None:
    control = ClipController(signal=signal, target=0.002, ema=0.0, start=0.24)
    assert control.update(value).high == pytest.approx(0.24 + direction * 0.02)


def test_smoothing_is_nine_tenths_of_the_past() -> None:
    # Target 1.0, first value 1.0; then 2.0 makes 0.9 + 0.2 = 1.1, which is 10 % above: narrower. A first value of 1.4
    # smoothed to 1.04 would stay inside the dead band of 5 %.
    control = ClipController(target=1.0)
    assert control.update(1.0).high == 0.28
    assert control.update(2.0).high == pytest.approx(0.26)
    control = ClipController(target=1.0)
    control.update(1.0)
    assert control.update(1.4).high == 0.28


def test_dead_band_keeps_noise_from_becoming_jitter() -> None:
    noise = [1.03, 0.97, 1.04, 0.96, 1.02, 0.98] * 5
    still = ClipController(target=1.0, ema=0.0, start=0.24)
    assert {still.update(entropy).high for entropy in noise} == {0.24}
    jittery = ClipController(target=1.0, ema=0.0, start=0.24, dead_band=0.0)  # negative control
    assert len({jittery.update(entropy).high for entropy in noise}) > 1


def test_a_collapsing_entropy_never_narrows_and_a_recovering_one_never_widens() -> None:
    control = ClipController(target=2.0, start=0.22)
    collapse = [control.update(2.0 * 0.8**i).high for i in range(20)]
    assert collapse == sorted(collapse)
    assert collapse[-1] == 0.28
    explosion = [control.update(4.0 + i).high for i in range(20)]
    falling = explosion[next(i for i, high in enumerate(explosion) if high < 0.28) :]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 0.20


@settings(max_examples=200, deadline=None)
@given(
    trace=st.lists(st.floats(0, 100), max_size=40),
    mode=st.sampled_from(["adaptive", "symmetric", "schedule", "asymmetric"]),
    scale=st.sampled_from([(0.20, 0.28), (3e-4, 4e-4)]),
)
def test_bounds_hold_for_any_trace_and_a_lower_entropy_never_gives_a_narrower_range(
    trace: list[float], mode: Any, scale: tuple[float, float]
) -> None:
    low, high = scale
    control = ClipController(mode=mode, low=low, high=high, target=1.0)
    calmer = ClipController(mode=mode, low=low, high=high, target=1.0)
    for entropy in trace:
        now, wider = control.update(entropy), calmer.update(0.5 * entropy)
        assert low <= now.low <= now.high <= high
        assert wider.high >= now.high


def test_gspo_moves_on_its_own_scale() -> None:
    # A quarter of 1e-4 per episode: 4e-4 -> 3.75e-4.
    control = ClipController(low=3e-4, high=4e-4, target=1.0, ema=0.0)
    assert control.range == (3e-4, 4e-4)
    assert control.update(2.0) == pytest.approx((3e-4, 3.75e-4))


def test_symmetric_moves_both_sides() -> None:
    control = ClipController(mode="symmetric", target=1.0, ema=0.0)
    assert control.range == (0.28, 0.28)
    assert control.update(2.0) == pytest.approx((0.26, 0.26))


def test_schedule_ramps_and_stays() -> None:
    up = ClipController(mode="schedule", schedule_episodes=4)
    assert [up.range.high, *(up.update(0.0).high for _ in range(6))] == pytest.approx(
        [0.20, 0.22, 0.24, 0.26, 0.28, 0.28, 0.28]
    )
    back = ClipController(mode="schedule", schedule_episodes=2, start=0.28, end=0.20)
    assert [back.update(0.0).high for _ in range(3)] == pytest.approx([0.24, 0.20, 0.20])


@pytest.mark.parametrize("mode", ["adaptive", "symmetric", "schedule", "asymmetric"])
@pytest.mark.parametrize("stop", [0, 3, 10, 15])
def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(mode: Any, stop: int) -> None:
    trace = [2.0 - 0.1 * i + 0.3 * (i % 3) for i in range(25)]
    whole = ClipController(mode=mode)
    expected = [whole.update(entropy) for entropy in trace]
    before, after = ClipController(mode=mode), ClipController(mode=mode)
    first = [before.update(entropy) for entropy in trace[:stop]]
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))  # as a checkpoint would hold it
    assert after.range == before.range
    assert first + [after.update(entropy) for entropy in trace[stop:]] == expected


def test_ranks_with_the_same_signal_keep_the_same_range() -> None:
    ranks = [ClipController(), ClipController()]
    for entropy in [1.0] * 10 + [0.3, 3.0, 9.0, 9.0]:
        assert len({rank.update(entropy) for rank in ranks}) == 1


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"low is 0.3 and high is 0.28"):
        ClipController(low=0.3)
    with pytest.raises(ValueError, match="'clip_fraction' needs a target"):
        ClipController(signal="clip_fraction")
    with pytest.raises(ValueError, match=r"start is 0.5, outside low 0.2 to high 0.28"):
        ClipController(start=0.5)
    with pytest.raises(ValueError, match="must be one of"):
        ClipController(mode="dynamic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ema is 1.0"):
        ClipController(ema=1.0)
    with pytest.raises(ValueError, match="must be finite"):
        ClipController().update(float("nan"))
    with pytest.raises(ValueError, match=r"checkpoint's bound is 0\.28, outside low 0\.2 to high 0\.25"):
        ClipController(high=0.25).load_state_dict(ClipController().state_dict())
