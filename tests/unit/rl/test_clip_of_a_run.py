"""The clip range over a run: the signal of an episode, and what a resumed run goes on with."""

from __future__ import annotations

import json
import math

import pytest

from sailrl.algos.clip import ClipRange
from sailrl.config.losses import AdaptiveClip, AsymmetricClip, Dapo, Gspo, Sapo
from sailrl.errors import ConfigError
from sailrl.rl.episode import clip_controller, clip_signal, update_metrics


def test_the_signal_of_an_episode_is_the_mean_over_the_tokens_of_its_updates() -> None:
    # 100 tokens at 0.5 nats and 300 at 0.1: (50 + 30) / 400 = 0.2. The mean over updates would be 0.3.
    updates = [
        {"tokens": 100.0, "entropy": 0.5, "clip/high_fraction": 0.04, "approx_kl": 0.0},
        {"tokens": 300.0, "entropy": 0.1, "clip/high_fraction": 0.0, "approx_kl": 0.8},
    ]
    assert clip_signal("entropy", updates) == pytest.approx(0.2)
    assert clip_signal("clip_fraction", updates) == pytest.approx(0.01)
    assert clip_signal("approx_kl", updates) == pytest.approx(0.6)


def test_a_resumed_run_goes_on_with_its_moved_bound() -> None:
    clip = AdaptiveClip(target=1.0, ema=0.0)
    running = clip_controller(Dapo(clip=clip))
    running.update(5.0)  # entropy above its target: tighter by a quarter of 0.08
    assert running.range.low == 0.20
    assert running.range.high == pytest.approx(0.26)
    saved = json.loads(json.dumps(running.state_dict()))
    assert clip_controller(Dapo(clip=clip), saved).range == running.range
    assert clip_controller(Dapo(clip=clip)).range == ClipRange(0.20, 0.28)


def test_a_range_changed_between_two_starts_is_refused_in_words() -> None:
    saved = clip_controller(Dapo()).state_dict()
    with pytest.raises(ConfigError, match=r"algorithm.clip does not fit the checkpoint.*0.28.*0.0004.*another run.dir"):
        clip_controller(Gspo(), saved)


def test_fixed_bounds_are_those_of_the_configuration_whatever_was_saved() -> None:
    saved = clip_controller(Dapo()).state_dict()
    assert clip_controller(Dapo(clip=AsymmetricClip(high=0.3)), saved).range == ClipRange(0.20, 0.3)


def test_an_algorithm_without_a_clip_logs_none() -> None:
    endless = clip_controller(Sapo())
    endless.update(0.1)
    assert endless.range == ClipRange(math.inf, math.inf)
    assert clip_controller(Sapo(), json.loads(json.dumps(endless.state_dict()))).range == endless.range
    logged = update_metrics({"entropy": 0.1, "tokens": 5.0}, endless.range)
    assert logged == {
        "entropy": 0.1,
        "clip/low": None,
        "clip/high": None,
        "clip/low_fraction": None,
        "clip/high_fraction": None,
    }
