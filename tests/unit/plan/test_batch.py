"""The derived batch table, checked with a pencil."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from sailrl.config.load import load_config
from sailrl.config.schema import RlvrConfig
from sailrl.plan.batch import BatchPlan, batch_plan, other_reading, render

REPO = Path(__file__).parents[3]


def plan_of(name: str, *overrides: str) -> BatchPlan:
    config = load_config(REPO / "configs" / name, overrides)
    assert isinstance(config, RlvrConfig)
    return batch_plan(config)


def test_the_papers_numbers_give_eight_updates_per_episode() -> None:
    plan = plan_of("rlvr_8b.yaml")
    assert plan.prompts_per_episode == 256  # 2048 / 8
    assert plan.groups_per_update == 64  # 512 / 8
    assert plan.updates_per_pass == 4  # 2048 / 512
    assert plan.updates_per_episode == 8  # 4 x 2 passes
    assert plan.updates == 2184  # 8 x 273 episodes
    assert plan.max_sequence_tokens == 20_480  # 16384 + 4096
    assert plan.max_tokens_per_episode == 41_943_040  # 2048 x 20480
    assert plan.max_tokens_per_update == 10_485_760  # 512 x 20480
    assert plan.max_microbatches_per_update == 64  # 512 / 8 ranks, one sequence of 20480 per micro-batch of 20480


def test_the_other_reading_has_eight_updates_in_one_pass() -> None:
    note = other_reading(plan_of("rlvr_8b.yaml"))
    assert note == (
        'SAIL-VL2 says "2048 rollouts, mini-batch 512, 8 gradient updates": 2048 / 512 = 4 updates, in 2 passes 8. '
        "The other reading is one pass of 8 updates of 256 rollouts: "
        "batch.passes_per_episode=1 batch.rollouts_per_update=256."
    )
    other = plan_of("rlvr_8b.yaml", "batch.passes_per_episode=1", "batch.rollouts_per_update=256")
    assert other.updates_per_episode == 8
    assert other_reading(other) is None


def test_a_second_reading_that_would_split_groups_is_not_offered() -> None:
    # 16 rollouts in 3 passes: 16 / 3 is no whole number; in 4 passes 4 rollouts would be half a group of 8.
    sizes = ["batch.rollouts_per_episode=16", "batch.rollouts_per_update=16"]
    assert other_reading(plan_of("rlvr_8b.yaml", *sizes, "batch.passes_per_episode=3")) is None
    assert other_reading(plan_of("rlvr_8b.yaml", *sizes, "batch.passes_per_episode=4")) is None
    assert other_reading(plan_of("rlvr_8b.yaml", *sizes, "batch.passes_per_episode=2")) == (
        "As many updates without a second look at any rollout: one pass of 2 updates of 8 rollouts: "
        "batch.passes_per_episode=1 batch.rollouts_per_update=8."
    )


def test_the_first_wave_is_oversampled_and_rounded_up() -> None:
    # 256 prompts x 1.3 = 332.8
    assert plan_of("rlvr_8b.yaml", "rollout.dynamic_sampling.oversample=1.3").first_wave_prompts == 333
    off = ["rollout.dynamic_sampling.oversample=1.3", "rollout.dynamic_sampling.enabled=false"]
    assert plan_of("rlvr_8b.yaml", *off).first_wave_prompts == 256


def test_micro_batches_hold_whole_sequences() -> None:
    # 512 / 8 = 64 sequences per rank; 50000 // 20480 = 2 per micro-batch; 64 / 2 = 32. Tokens alone would say 27.
    assert plan_of("rlvr_8b.yaml", "learner.max_tokens_per_microbatch=50000").max_microbatches_per_update == 32
    # 512 / 6 = 85.3 sequences per rank, so one rank has 86.
    assert plan_of("rlvr_8b.yaml", "learner.ranks=6").max_microbatches_per_update == 86


def test_the_table_fits_80_columns_and_shows_the_arithmetic() -> None:
    console = Console(width=80, record=True)
    console.print(render(plan_of("rlvr_8b.yaml")))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(
        "updates per episode" in line and " 8 " in line and "2,048 / 512 = 4, x 2 passes" in line for line in lines
    )
    assert len(lines) == 11  # no line was wrapped
