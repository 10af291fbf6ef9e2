"""Rules across sections: each broken rule names both numbers and offers a valid one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sailrl.config.checks import validate, warnings
from sailrl.config.load import Loaded, load
from sailrl.config.schema import BatchConfig, DataConfig, ModelConfig, RlvrConfig, SourceConfig
from sailrl.errors import ConfigError

BASE = """\
kind: rlvr
model: {path: org/model, dtype: float32}
data:
  train: {path: train.jsonl}
  max_prompt_tokens: 100
rewards:
  parts:
    boxed: {use: "rewards.boxed:BoxedAnswer", weight: 1.0}
batch: {group_size: 8, rollouts_per_episode: 64, rollouts_per_update: 32, passes_per_episode: 1}
rollout: {max_response_tokens: 50}
learner: {max_tokens_per_microbatch: 150}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(BASE)
    return path


def complaint(base: Path, *overrides: str) -> str:
    loaded = load(base, overrides)
    with pytest.raises(ConfigError) as error:
        validate(loaded.config, loaded.where)
    return str(error.value)


def accepted(base: Path, *overrides: str) -> Loaded:
    loaded = load(base, overrides)
    validate(loaded.config, loaded.where)
    return loaded


def test_a_sound_configuration_passes(base: Path) -> None:
    accepted(base)


# --- batch arithmetic ----------------------------------------------------------------------------------------------


def test_an_episode_holds_whole_groups(base: Path) -> None:
    # 60 / 8 = 7.5 groups; with updates of 32 the nearest episodes are 32 and 64.
    assert complaint(base, "batch.rollouts_per_episode=60") == (
        "command line, batch.rollouts_per_episode=...: batch.rollouts_per_episode is 60 and group_size is 8, which "
        "makes 7.5 groups, but an episode holds whole groups. Write rollouts_per_episode: 32 or 64."
    )


def test_an_update_takes_whole_groups(base: Path) -> None:
    # Multiples of 8 that divide 64: 8, 16, 32, 64.
    assert complaint(base, "batch.rollouts_per_update=20") == (
        "command line, batch.rollouts_per_update=...: batch.rollouts_per_update is 20 and group_size is 8, which makes "
        "2.5 groups, but an update takes whole groups. Write rollouts_per_update: 16 or 32."
    )


def test_a_pass_is_a_whole_number_of_updates(base: Path) -> None:
    assert complaint(base, "batch.rollouts_per_update=24") == (
        "command line, batch.rollouts_per_update=...: batch.rollouts_per_update is 24 and rollouts_per_episode is 64, "
        "which makes 2.667 updates, but a pass over an episode is a whole number of updates. "
        "Write rollouts_per_episode: 48 or 72, or rollouts_per_update: 16 or 32."
    )


def test_an_update_larger_than_the_episode_is_refused(base: Path) -> None:
    assert "Write rollouts_per_episode: 128, or rollouts_per_update: 64." in complaint(
        base, "batch.rollouts_per_update=128"
    )


@given(g=st.integers(2, 12), e=st.integers(2, 300), u=st.integers(1, 300))
def test_numbers_that_pass_are_whole_everywhere_and_whole_numbers_pass(g: int, e: int, u: int) -> None:
    config = RlvrConfig.model_validate(
        {
            "kind": "rlvr",
            "model": ModelConfig(path="a/b"),
            "data": DataConfig(train=SourceConfig(path="x.jsonl")),
            "rewards": {"parts": {"a": {"use": "m:A"}}},
            "batch": BatchConfig(group_size=g, rollouts_per_episode=e, rollouts_per_update=u),
        }
    )
    whole = e % g == 0 and u % g == 0 and e % u == 0
    if whole:
        validate(config)
    else:
        with pytest.raises(ConfigError):
            validate(config)


# --- one origin ----------------------------------------------------------------------------------------------------


def test_a_model_has_one_origin(base: Path) -> None:
    assert complaint(base, "model.build={use: 'm:f'}") == (
        f"{base}, line 2: model.path is 'org/model', but build is given too; a policy has one origin. "
        "Remove one of the two."
    )
    assert complaint(base, "model.path=null") == (
        f"{base}, line 2: model says neither path nor build; a policy has one origin. "
        "Write for example `path: Qwen/Qwen3-VL-2B-Thinking`."
    )
    accepted(base, "model.path=null", "model.build={use: 'm:f'}")


def test_every_source_has_one_origin(base: Path) -> None:
    assert "data.eval says neither path nor generate" in complaint(base, "data.eval={}")
    assert "warm_start.data.path is 'x.jsonl', but generate is given too" in complaint(
        base, "warm_start={steps: 1, data: {path: x.jsonl, generate: {use: 'm:f'}}}"
    )


# --- sampling, precision, limits -----------------------------------------------------------------------------------


def test_a_correction_refuses_a_truncated_distribution(base: Path) -> None:
    message = complaint(base, "rollout.top_p=0.9", "rollout.top_k=20")
    assert "rollout.top_p is 0.9, but mismatch.correction is token_tis" in message
    assert "rollout.top_k is 20, but mismatch.correction is token_tis" in message
    assert "Write top_p: 1.0, or switch the correction off with mismatch.correction: {kind: none}." in message


def test_without_a_correction_the_distribution_may_be_truncated(base: Path) -> None:
    accepted(base, "rollout.top_p=0.9", "rollout.top_k=20", "mismatch.correction={kind: none}")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_tolerance_that_half_precision_does_not_use_is_said(base: Path, dtype: str) -> None:
    loaded = accepted(base, f"model.dtype={dtype}", "sync.probe_tolerance=0.1")
    (warning,) = warnings(loaded.config, loaded.where)
    assert (
        f"sync.probe_tolerance is 0.1 and model.dtype is {dtype}, but it bounds the maximum in float32 alone" in warning
    )
    for others in (["model.dtype=float32", "sync.probe_tolerance=1e-3"], [f"model.dtype={dtype}"]):
        loaded = accepted(base, *others)
        assert warnings(loaded.config, loaded.where) == []


def test_a_micro_batch_holds_the_longest_sequence(base: Path) -> None:
    # 100 prompt + 50 response tokens = 150.
    assert complaint(base, "learner.max_tokens_per_microbatch=149") == (
        "command line, learner.max_tokens_per_microbatch=...: learner.max_tokens_per_microbatch is 149, but the "
        "longest sequence has 150 tokens (100 of data.max_prompt_tokens and 50 of rollout.max_response_tokens), and a "
        "micro-batch holds at least one. Write max_tokens_per_microbatch: 150, or lower one of the limits."
    )


def test_a_reward_that_knows_the_response_limit_knows_the_real_one(base: Path) -> None:
    penalty = "rewards.parts.long={use: 'm:L', weight: 0.5, penalty: true, args: {max_response_tokens: 60}}"
    assert "max_response_tokens is 60 and rollout.max_response_tokens is 50" in complaint(base, penalty)
    accepted(base, penalty.replace("60", "50"))


# --- evaluation, accuracy, regex -----------------------------------------------------------------------------------


def test_problems_are_held_out_or_named_and_not_both(base: Path) -> None:
    held_out = "data.held_out=0.1"
    assert "data.held_out is 0.1, but data.eval has the problems" in complaint(base, held_out, "data.eval.path=e.jsonl")
    validate(load(base, [held_out, "eval.every_episodes=2"]).config)


def test_rows_are_drawn_for_a_limit_only(base: Path) -> None:
    assert "data.train.shuffle is set, but limit is not" in complaint(base, "data.train.shuffle=1")
    validate(load(base, ["data.train.shuffle=1", "data.train.limit=10"]).config)


def test_evaluation_needs_held_out_problems(base: Path) -> None:
    assert "eval is set, but data.eval is not" in complaint(base, "eval.samples=4")
    accepted(base, "eval.samples=4", "data.eval={path: x.jsonl}")


def test_a_written_out_default_asks_for_no_evaluation(base: Path) -> None:
    # resolved.yaml writes every default; it must stay as valid as the file it came from.
    accepted(base, "eval.samples=1")


def test_a_penalty_cannot_be_the_accuracy(base: Path) -> None:
    first = "rewards.parts={long: {use: 'm:L', weight: 0.5, penalty: true}, boxed: {use: 'm:B', weight: 1.0}}"
    assert "rewards.accuracy is the part 'long' (the first one), which is a penalty" in complaint(base, first)
    assert complaint(base, first).endswith("Write accuracy: boxed.")
    accepted(base, first, "rewards.accuracy=boxed")


@pytest.mark.parametrize(
    ("regex", "message"),
    [("abc", "'abc', which has no group"), ("(a", "'(a', which is no regular expression: missing )")],
)
def test_an_answer_regex_has_a_group(base: Path, regex: str, message: str) -> None:
    assert f"data.train.answer_regex is {message}" in complaint(base, f"data.train.answer_regex='{regex}'")


def test_all_complaints_come_together_in_the_order_of_the_file(base: Path) -> None:
    message = complaint(base, "model.build={use: 'm:f'}", "batch.rollouts_per_update=20", "rollout.top_p=0.5")
    assert message.startswith("3 things are wrong.\n\n")
    paragraphs = message.split("\n\n")[1:]
    assert [text.split(": ")[1].split(" ")[0] for text in paragraphs] == [
        "model.path",
        "batch.rollouts_per_update",
        "rollout.top_p",
    ]


def test_without_places_the_dotted_path_alone_is_given(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"^the configuration: rollout\.top_p is 0\.5"):
        validate(load(base, ["rollout.top_p=0.5"]).config)


def test_colocated_placement_pairs_every_learner_rank_with_one_engine(base: Path) -> None:
    said = complaint(base, "placement=colocated", "rollout.workers=3", "learner.ranks=2")
    assert "rollout.workers is 3 and learner.ranks is 2" in said
    assert "Write workers: 2, or placement: split" in said
    said = complaint(base, "placement=colocated", "rollout.engine.tensor_parallel=2")
    assert "tensor_parallel is 2" in said
    loaded = load(base, ["placement=split", "rollout.workers=3", "learner.ranks=2"])
    validate(loaded.config, loaded.where)


@pytest.mark.parametrize(("placement", "method"), [("colocated", "nccl"), ("split", "ipc")])
def test_a_way_of_weights_that_needs_the_other_placement_is_refused(base: Path, placement: str, method: str) -> None:
    said = complaint(base, f"placement={placement}", f"sync.method={method}")
    assert f"sync.method is {method}" in said
    assert f"but placement is {placement}" in said
    assert "Write " in said
    for fine in ("disk", "ipc" if placement == "colocated" else "nccl"):
        loaded = load(base, [f"placement={placement}", f"sync.method={fine}"])
        validate(loaded.config, loaded.where)


def test_an_adapter_stands_alone_and_goes_by_disk(base: Path) -> None:
    accepted(base, "model.lora={rank: 8}")
    said = complaint(base, "model.lora={}", "model.freeze=[vision]")
    assert "model.freeze is ['vision'] and lora is set" in said
    said = complaint(base, "model.lora={}", "sync.method=nccl")
    assert "sync.method is nccl and model.lora is set" in said
    assert "Write method: disk" in said


def test_generation_beside_the_learner_cannot_be_repeated_bit_for_bit(base: Path) -> None:
    said = complaint(base, "rollout.max_staleness=2", "run.deterministic=true")
    assert "max_staleness is 2 and run.deterministic is true" in said
    assert "Write deterministic: false" in said
    accepted(base, "rollout.max_staleness=2")
    accepted(base, "run.deterministic=true")


def test_engines_that_sleep_while_the_learner_learns_cannot_generate_meanwhile(base: Path) -> None:
    said = complaint(base, "rollout.max_staleness=2", "placement=colocated")
    assert "max_staleness is 2 and placement is colocated" in said
    assert "placement: split" in said
    accepted(base, "placement=colocated")


def test_stale_responses_without_a_correction_are_allowed_and_said(base: Path) -> None:
    def said(*overrides: str) -> list[str]:
        loaded = accepted(base, *overrides)
        return warnings(loaded.config, loaded.where)

    assert said("rollout.max_staleness=2") == []
    (warning,) = said("rollout.max_staleness=2", "mismatch.correction={kind: none}")
    assert "max_staleness is 2" in warning
    (warning,) = said("rollout.max_staleness=2", "mismatch.max_k3=0.001")
    assert "mismatch.max_k3 is 0.001 and rollout.max_staleness is 2" in warning


# --- ranks ---------------------------------------------------------------------------------------------------------


def test_every_rank_belongs_to_a_whole_copy_of_the_weights(base: Path) -> None:
    # 12 / 8 = 1.5 copies; 12 is a multiple of 2, 3, 4, 6 and 12.
    said = complaint(base, "learner.ranks=12", "learner.shard_ranks=8")
    assert "is 8 and ranks is 12, which makes 1.5 copies" in said
    assert "shard_ranks: 2 or 3 or 4 or 6 or 12" in said
    accepted(base, "learner.ranks=16", "learner.shard_ranks=8")


def test_rl_and_supervised_stages_may_run_in_float16_and_on_many_ranks(base: Path, tmp_path: Path) -> None:
    accepted(base, "model.dtype=float16")
    stage = tmp_path / "sft.yaml"
    stage.write_text("kind: sft\nmodel: {path: org/model}\ndata: {train: {path: train.jsonl}}\n")
    accepted(stage, "model.dtype=float16", "learner.ranks=16", "learner.shard_ranks=8")
    assert "is 8 and ranks is 12" in complaint(stage, "learner.ranks=12", "learner.shard_ranks=8")
