"""Algorithms, clip rules and corrections: each with its own defaults, and nonsense refused with both numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from sailrl.config import losses
from sailrl.config.checks import validate, warnings
from sailrl.config.load import load
from sailrl.config.schema import RlvrConfig
from sailrl.errors import ConfigError
from sailrl.rl.episode import clip_controller

BASE = """\
kind: rlvr
model: {path: org/model, dtype: float32}
data: {train: {path: train.jsonl}, max_prompt_tokens: 100}
rewards: {parts: {boxed: {use: "rewards.boxed:BoxedAnswer", weight: 1.0}}}
batch: {group_size: 8, rollouts_per_episode: 64, rollouts_per_update: 32, passes_per_episode: 1, episodes: 50}
rollout: {max_response_tokens: 50}
learner: {max_tokens_per_microbatch: 150}
"""
ICEPOP = "mismatch.correction={kind: icepop}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(BASE)
    return path


def accepted(base: Path, *overrides: str) -> RlvrConfig:
    loaded = load(base, overrides)
    validate(loaded.config, loaded.where)
    assert isinstance(loaded.config, RlvrConfig)
    return loaded.config


def refused(base: Path, *overrides: str) -> str:
    loaded = load(base, overrides)
    with pytest.raises(ConfigError) as error:
        validate(loaded.config, loaded.where)
    return str(error.value)


def warned(base: Path, *overrides: str) -> list[str]:
    loaded = load(base, overrides)
    validate(loaded.config, loaded.where)
    return warnings(loaded.config, loaded.where)


# --- defaults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode", "low", "high", "normalize_std"),
    [
        ("dapo", "adaptive", 0.20, 0.28, True),
        ("gspo", "adaptive", 3e-4, 4e-4, True),
        ("gspo_token", "adaptive", 3e-4, 4e-4, True),
        ("grpo", "asymmetric", 0.20, 0.20, True),
        ("dr_grpo", "asymmetric", 0.20, 0.20, False),
        ("cispo", "asymmetric", 1.0, 4.0, True),
    ],
)
def test_every_algorithm_has_defaults_of_its_own(
    base: Path, name: str, mode: str, low: float, high: float, normalize_std: bool
) -> None:
    algorithm: Any = accepted(base, f"algorithm={{name: {name}}}", ICEPOP).algorithm
    assert (algorithm.name, algorithm.clip.mode, algorithm.clip.low, algorithm.clip.high) == (name, mode, low, high)
    assert algorithm.normalize_std is normalize_std


def test_every_algorithm_and_clip_rule_gives_a_controller_that_starts_inside_its_range(base: Path) -> None:
    for section in get_args(get_args(losses.Algorithm)[0]):
        algorithm = section()
        bounds = clip_controller(algorithm).range
        if isinstance(algorithm, losses.Sapo | losses.Vespo):
            assert bounds == (float("inf"), float("inf"))  # no clip
        else:
            assert bounds == (algorithm.clip.low, algorithm.clip.high)


@pytest.mark.parametrize("mode", ["adaptive", "asymmetric", "symmetric", "schedule"])
@pytest.mark.parametrize(("name", "low", "high"), [("dapo", 0.20, 0.28), ("gspo", 3e-4, 4e-4)])
def test_every_mode_takes_its_scale_from_the_algorithm(
    base: Path, name: str, mode: str, low: float, high: float
) -> None:
    algorithm: Any = accepted(base, f"algorithm={{name: {name}, clip: {{mode: {mode}}}}}", ICEPOP).algorithm
    assert (algorithm.clip.low, algorithm.clip.high) == (low, high)
    controller = clip_controller(algorithm)
    assert controller.mode == mode
    assert controller.range.high == (low if mode == "schedule" else high)


def test_the_default_corrections(base: Path) -> None:
    assert accepted(base).mismatch.correction == losses.TokenTis(cap=2.0)
    icepop = accepted(base, ICEPOP).mismatch.correction
    assert icepop == losses.IcePop(low=0.5, high=5.0)
    assert accepted(base).mismatch.veto_below is None
    assert accepted(base, "mismatch.veto_below=1e-4").mismatch.veto_below == 1e-4


# --- nonsense ------------------------------------------------------------------------------------------------------


def test_an_unknown_algorithm_is_refused_with_the_known_ones(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"'gsp', but it must be one of dapo, gspo, gspo_token, grpo"):
        load(base, ["algorithm={name: gsp}"])


def test_a_range_with_low_above_high_is_refused(base: Path) -> None:
    message = refused(base, "algorithm={name: dapo, clip: {mode: adaptive, low: 0.3, high: 0.25}}")
    assert "algorithm.clip.low is 0.3 and high is 0.25" in message
    assert message.endswith("Write low: 0.25 and high: 0.3.")


def test_gspo_on_the_scale_of_tokens_below_is_refused_for_its_order(base: Path) -> None:
    # Only one bound was written; the other keeps GSPO's default.
    assert "algorithm.clip.low is 0.2 and high is 0.0004" in refused(
        base, "algorithm={name: gspo, clip: {mode: adaptive, low: 0.2}}", ICEPOP
    )


@pytest.mark.parametrize(("mode", "name"), [("adaptive", "start"), ("schedule", "start"), ("schedule", "end")])
def test_a_bound_outside_its_range_is_refused(base: Path, mode: str, name: str) -> None:
    message = refused(base, f"algorithm={{name: dapo, clip: {{mode: {mode}, {name}: 0.5}}}}")
    assert f"algorithm.clip.{name} is 0.5, but the bound moves between low, 0.2, and high, 0.28" in message
    assert message.endswith(f"Write {name}: 0.28.")


@pytest.mark.parametrize("signal", ["clip_fraction", "approx_kl"])
def test_a_signal_without_a_target_is_refused(base: Path, signal: str) -> None:
    message = refused(base, f"algorithm={{name: dapo, clip: {{mode: adaptive, signal: {signal}}}}}")
    assert f"algorithm.clip.signal is {signal} and target is empty" in message
    accepted(base, f"algorithm={{name: dapo, clip: {{mode: adaptive, signal: {signal}, target: 0.01}}}}")


def test_gspo_refuses_token_weights_far_above_its_clip(base: Path) -> None:
    # A cap of 2 lets a token count 1 more than it should; 1 / 4e-4 = 2,500 times the clip.
    message = refused(base, "algorithm={name: gspo}", "mismatch.correction={kind: token_tis}")
    assert "mismatch.correction is token_tis with a cap of 2 and algorithm.clip.high is 0.0004" in message
    assert "2,500 times" in message
    assert "Write mismatch.correction: {kind: icepop}" in message
    accepted(base, "algorithm={name: gspo}", ICEPOP)
    accepted(base, "algorithm={name: gspo}", "mismatch.correction={kind: none}")
    accepted(base, "algorithm={name: gspo}", "mismatch.correction={kind: token_tis, cap: 1.0}")
    accepted(base, "algorithm={name: dapo}")


def test_top_p_is_refused_with_every_correction(base: Path) -> None:
    for kind in ("token_tis", "icepop", "sequence_mask", "geometric_mask"):
        message = refused(base, "rollout.top_p=0.9", f"mismatch.correction={{kind: {kind}}}")
        assert f"rollout.top_p is 0.9, but mismatch.correction is {kind}" in message


# --- warnings ------------------------------------------------------------------------------------------------------


def test_a_gspo_clip_that_never_binds_is_a_warning_not_an_error(base: Path) -> None:
    (warning,) = warned(base, "algorithm={name: gspo, clip: {mode: asymmetric, low: 0.2, high: 0.28}}", ICEPOP)
    assert "algorithm.clip.high is 0.28 and the algorithm is gspo" in warning
    assert "low: 3e-4, high: 4e-4" in warning
    assert warned(base, "algorithm={name: gspo, clip: {mode: asymmetric, high: 0.01}}", ICEPOP) == []
    assert warned(base) == []


def test_a_ramp_longer_than_the_run_is_a_warning(base: Path) -> None:
    (warning,) = warned(base, "algorithm={name: dapo, clip: {mode: schedule, schedule_episodes: 80}}")
    assert "algorithm.clip.schedule_episodes is 80 and batch.episodes is 50" in warning


def test_a_replay_with_nothing_to_replay_is_a_warning(base: Path) -> None:
    (warning,) = warned(base, "learner.routing_replay=r2", "batch.rollouts_per_update=64")
    assert "an episode has 1 update" in warning


def test_the_shipped_mixture_of_experts_follows_gspos_paper() -> None:
    config = load(Path(__file__).parents[3] / "configs" / "gspo_a3b.yaml").config
    assert isinstance(config, RlvrConfig)
    assert isinstance(config.algorithm, losses.Gspo)
    assert (config.algorithm.clip.low, config.algorithm.clip.high) == (3e-4, 4e-4)
    assert config.mismatch.correction == losses.IcePop(low=0.5, high=5.0)
    assert config.batch.rollouts_per_episode // config.batch.rollouts_per_update == 4
    engines = config.rollout.workers * config.rollout.engine.tensor_parallel
    assert engines + config.learner.ranks == 32  # GPUs


def test_rewards_are_normalised_one_by_one_only_in_a_weighted_sum(base: Path) -> None:
    each = "algorithm={name: dapo, normalize_each: true}"
    accepted(base, each)
    cascade = "rewards.combine.use=rewards.mix:Cascade"
    message = refused(base, each, cascade)
    assert "algorithm.normalize_each is true and rewards.combine is rewards.mix:Cascade" in message
    accepted(base, cascade)
    assert "normalize_std is false" in refused(base, "algorithm={name: dr_grpo, normalize_each: true}")


def test_terms_of_a_loss_take_every_response_and_the_loss_alone_does_not(base: Path) -> None:
    assert not accepted(base).algorithm.needs_every_response
    assert accepted(base, "algorithm={name: dapo, kl_coef: 0.01}").algorithm.needs_every_response
    assert accepted(base, "algorithm={name: dapo, entropy_coef: 0.01}").algorithm.needs_every_response
