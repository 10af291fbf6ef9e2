"""Defaults follow from one another: whatever few lines a configuration has, it is not refused over one it has not."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from sailrl.config.checks import validate, warnings
from sailrl.config.load import load, resolved_yaml
from sailrl.config.losses import IcePop, ScheduleClip, TokenTis
from sailrl.config.schema import RlvrConfig
from sailrl.config.sft import SftConfig
from sailrl.errors import ConfigError

MINIMAL = """\
kind: rlvr
model: {path: org/model}
data: {train: {path: train.jsonl}}
rewards: {parts: {boxed: {use: "rewards.boxed:BoxedAnswer"}}}
"""
ALGORITHMS = ("dapo", "gspo", "gspo_token", "grpo", "dr_grpo", "cispo", "sapo", "vespo")
DTYPES = ("float32", "bfloat16", "float16")
PLACEMENTS = ("split", "colocated")


def sound(folder: Path, *overrides: str) -> RlvrConfig:
    """The minimal configuration with overrides, which keeps every rule and is warned of nothing."""
    (folder / "c.yaml").write_text(MINIMAL)
    loaded = load(folder / "c.yaml", overrides)
    validate(loaded.config, loaded.where)
    assert warnings(loaded.config, loaded.where) == []
    assert isinstance(loaded.config, RlvrConfig)
    return loaded.config


@pytest.mark.parametrize(("algorithm", "dtype", "placement"), product(ALGORITHMS, DTYPES, PLACEMENTS))
def test_every_allowed_combination_needs_no_further_line(
    tmp_path: Path, algorithm: str, dtype: str, placement: str
) -> None:
    chosen = f"algorithm.name={algorithm}", f"model.dtype={dtype}", f"placement={placement}"
    sound(tmp_path, *chosen)
    sound(tmp_path, *chosen, "learner.ranks=4")
    if placement == "split":  # engines that sleep cannot generate meanwhile
        sound(tmp_path, *chosen, "rollout.max_staleness=2")


def test_the_only_reward_counts_fully(tmp_path: Path) -> None:
    assert sound(tmp_path).rewards.parts["boxed"].weight == 1.0
    assert "weight: 1.0" in resolved_yaml(sound(tmp_path))


@pytest.mark.parametrize(
    "override",
    [
        "rewards.parts.boxed.weight=0",
        'rewards.parts.other={use: "rewards.think_format:ThinkFormat"}',  # two parts, and none has a weight
    ],
)
def test_a_run_whose_reward_is_always_0_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"boxed.weight is 0.*every reward would be 0.*Write weight: 1.0"):
        sound(tmp_path, override)
    sound(tmp_path, override, 'rewards.combine={use: "my.py:Rule"}')  # a rule of one's own may need no weights


def test_gspo_drops_tokens_where_the_others_weigh_them(tmp_path: Path) -> None:
    assert sound(tmp_path).mismatch.correction == TokenTis()
    gspo = sound(tmp_path, "algorithm.name=gspo", "mismatch.max_k3=0.02")
    assert gspo.mismatch.correction == IcePop()
    assert gspo.mismatch.max_k3 == 0.02


def test_what_is_written_stays_and_is_judged(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(MINIMAL)
    loaded = load(tmp_path / "c.yaml", ["algorithm.name=gspo", "mismatch.correction={kind: token_tis}"])
    with pytest.raises(ConfigError, match="is token_tis with a cap of 2"):
        validate(loaded.config)


def test_sharing_a_gpu_pairs_engines_with_ranks_and_leaves_room(tmp_path: Path) -> None:
    shared = sound(tmp_path, "placement=colocated", "learner.ranks=8")
    assert (shared.rollout.workers, shared.rollout.engine.gpu_memory_utilization) == (8, 0.65)
    apart = sound(tmp_path, "learner.ranks=8")
    assert (apart.rollout.workers, apart.rollout.engine.gpu_memory_utilization) == (1, 0.85)


@pytest.mark.parametrize(
    ("written", "group", "episode", "update"),
    [
        ([], 8, 2048, 512),  # the paper's
        (["batch.group_size=5"], 5, 1280, 320),  # 256 groups of 5; a quarter is 64 groups
        (["batch.rollouts_per_episode=64"], 8, 64, 16),
        (["batch.rollouts_per_episode=24"], 8, 24, 24),  # a quarter, 6, is no whole group
        (["batch.rollouts_per_update=256"], 8, 2048, 256),
    ],
)
def test_batches_follow_from_what_is_written_of_them(
    tmp_path: Path, written: list[str], group: int, episode: int, update: int
) -> None:
    batch = sound(tmp_path, *written).batch
    assert (batch.group_size, batch.rollouts_per_episode, batch.rollouts_per_update) == (group, episode, update)


def test_a_micro_batch_holds_the_longest_sequence(tmp_path: Path) -> None:
    # 16384 + 8192 = 24576
    assert sound(tmp_path, "rollout.max_response_tokens=8192").learner.max_tokens_per_microbatch == 24576
    assert sound(tmp_path, "rollout.max_response_tokens=64").learner.max_tokens_per_microbatch == 20480
    (tmp_path / "s.yaml").write_text("{kind: sft, model: {path: a/b}, data: {train: {path: x}, max_tokens: 30000}}")
    stage = load(tmp_path / "s.yaml").config
    validate(stage)
    assert isinstance(stage, SftConfig)
    assert stage.training.max_tokens_per_microbatch == 30000


def test_a_ramp_takes_the_whole_run(tmp_path: Path) -> None:
    ramp = "algorithm={name: dapo, clip: {mode: schedule}}"
    clip = getattr(sound(tmp_path, ramp, "batch.episodes=20").algorithm, "clip", None)
    assert isinstance(clip, ScheduleClip)
    assert clip.schedule_episodes == 20


def test_the_frames_of_a_video_are_as_many_as_an_engine_takes(tmp_path: Path) -> None:
    config = sound(tmp_path)
    assert config.data.frames_per_video <= config.rollout.engine.images_per_prompt


def test_the_resolved_copy_of_a_minimal_configuration_is_the_same(tmp_path: Path) -> None:
    config = sound(tmp_path, "algorithm.name=gspo", "placement=colocated", "learner.ranks=2")
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(config))
    assert load(tmp_path / "resolved.yaml").config == config
