"""The loop, whole, with a model that really samples and learns, in one process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from sailrl.errors import RewardError, RolloutError, WeightSyncError
from sailrl.report.metrics import EVAL_KEYS, RLVR_KEYS
from sailrl.rl import checkpoints
from sailrl.rollout.collect import NothingToLearn
from sailrl.rollout.engine import Request, Sampling
from sailrl.types import Completion, Prompt, Rollout, Score
from tests.fakes.local_run import LocalRun, even, make_config
from tests.fakes.tiny_learner import same, weights

TIMING = ("time/", "tokens/trained_per_s")


def lines(run_dir: Path, *, timing: bool = True) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; without ``timing`` only what does not depend on the machine."""
    found = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if timing or not k.startswith(TIMING)} for line in found]


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    """Three episodes of 16 rollouts: 2 updates of 8 in each of 2 passes, 12 updates in all."""
    return LocalRun(make_config(), tmp_path_factory.mktemp("run"), tiny_folder).train()


def test_every_update_has_a_line_with_every_number_of_the_contract(finished: LocalRun) -> None:
    updates = [line for line in lines(finished.run_dir) if "reward/mean" in line]
    assert [line["step"] for line in updates] == list(range(1, 13))
    assert [line["episode"] for line in updates] == [1] * 4 + [2] * 4 + [3] * 4
    assert [line["version"] for line in updates] == [0] * 4 + [1] * 4 + [2] * 4  # the weights that sampled
    for line in updates:
        assert not {*RLVR_KEYS, "reward/even"} - line.keys()
        assert line["groups/kept"] == 4
        assert line["staleness/max"] == 0
        assert line["mismatch/max_abs_dlogp"] < 1e-4 or line["step"] > 1
    assert [line["time/generate_s"] > 0 for line in updates] == [True, False, False, False] * 3


def test_every_line_tells_the_speed_of_whole_episodes(finished: LocalRun) -> None:
    """The first update of an episode waits for its generation, so that the time of a line says little."""
    updates = [line for line in lines(finished.run_dir) if "reward/mean" in line]
    seconds = [line["time/step_s"] - line["time/eval_s"] - line["time/checkpoint_s"] for line in updates]
    assert max(seconds[4:8]) > 2 * min(seconds[4:8])
    for at, line in enumerate(updates):
        last = seconds[max(0, at - 3) : at + 1]  # four updates are an episode
        assert line["time/update_s"] == pytest.approx(sum(last) / len(last))
    learned = 4 * updates[7]["time/update_s"] * updates[7]["tokens/trained_per_s"]
    rows = [row for row in _logged(finished.run_dir) if row["kept"] and row["episode"] == 2]
    assert learned == pytest.approx(2 * sum(row["response_tokens"] for row in rows))  # in two passes


def test_held_out_problems_are_tried_before_the_first_update_and_after_the_last(finished: LocalRun) -> None:
    evaluations = [line for line in lines(finished.run_dir) if "eval/accuracy" in line]
    assert [line["step"] for line in evaluations] == [0, 8, 12]  # the start, episode 2, the end
    assert all(not set(EVAL_KEYS) - line.keys() for line in evaluations)
    assert lines(finished.run_dir)[0]["step"] == 0


def test_the_first_pass_is_on_policy_and_the_second_is_not(finished: LocalRun) -> None:
    """pi_old is that of the start of the episode: the first update has a ratio of 1, the later ones have moved."""
    ratios = [line["ratio/max"] for line in lines(finished.run_dir) if "ratio/max" in line]
    assert ratios[0::4] == pytest.approx([1.0] * 3, abs=1e-5)
    assert min(ratios[1::4] + ratios[3::4]) > 1.01


def test_engine_and_learner_agree_on_what_was_sampled(finished: LocalRun) -> None:
    assert all(line["mismatch/max_abs_dlogp"] < 1e-4 for line in lines(finished.run_dir) if "entropy" in line)


def test_the_run_folder_holds_logs_and_checkpoints(finished: LocalRun) -> None:
    names = {path.relative_to(finished.run_dir).as_posix() for path in finished.run_dir.glob("*")}
    assert names == {"metrics.jsonl", "rollouts.jsonl", "checkpoints", "tensorboard"}
    checkpoints = finished.run_dir / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["episode-000002", "episode-000003"]


def test_every_rollout_is_logged_with_its_fate(finished: LocalRun) -> None:
    logged = [json.loads(line) for line in (finished.run_dir / "rollouts.jsonl").read_text().splitlines()]
    kept = [row for row in logged if row["kept"]]
    assert len(kept) == 3 * 16
    assert {row["episode"] for row in kept} == {1, 2, 3}
    assert all((row["advantage"] > 0) == (row["reward"] == 1.0) for row in kept)
    dropped = sum(line["groups/dropped"] for line in lines(finished.run_dir) if line.get("step") in (1, 5, 9))
    assert len(logged) - len(kept) == 4 * dropped
    assert all(row["dropped_reason"] and row["advantage"] is None for row in logged if not row["kept"])


def test_the_last_checkpoint_is_a_model_that_transformers_loads(finished: LocalRun) -> None:
    folder = finished.run_dir / "checkpoints" / "episode-000003" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert same(dict(model.named_parameters()), weights(finished.learners.learner))
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_the_policy_learns(tiny_folder: Path, tmp_path: Path) -> None:
    """Even first tokens are rewarded; half of them are even before training."""
    config = make_config(
        batch={"episodes": 12},
        rollout={"max_response_tokens": 1, "dynamic_sampling": {"enabled": False}},
        learner={"learning_rate": 3e-2},
    )
    LocalRun(config, tmp_path, tiny_folder).train()
    accuracy = [line["accuracy"] for line in lines(tmp_path) if "accuracy" in line]
    assert accuracy[0] < 0.8
    assert accuracy[-1] > 0.9


class Counting(LocalRun):
    """Counts the passes that compute old log-probabilities."""

    extra_passes = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        compute = self.learners.compute_old_logprobs

        def counted() -> None:
            self.extra_passes += 1
            compute()

        self.learners.compute_old_logprobs = counted  # type: ignore[method-assign]


@pytest.mark.parametrize(("per_update", "passes", "extra"), [(16, 1, 0), (8, 1, 2), (16, 2, 2)])
def test_old_logprobs_cost_a_pass_only_when_an_episode_has_several_updates(
    tiny_folder: Path, tmp_path: Path, per_update: int, passes: int, extra: int
) -> None:
    batch = {"rollouts_per_update": per_update, "passes_per_episode": passes, "episodes": 2}
    run = Counting(make_config(batch=batch), tmp_path, tiny_folder).train()
    assert run.extra_passes == extra
    first = next(line for line in lines(tmp_path) if "ratio/max" in line)
    assert first["ratio/max"] == pytest.approx(1.0, abs=1e-5)


class Stop(Exception):
    """The run is killed here."""


class Killed(LocalRun):
    """Stops in the middle of sampling wave number ``at``."""

    def __init__(self, at: int, *args: Any) -> None:
        super().__init__(*args)
        generate, calls = self.pool.generate, iter(range(at))

        async def interrupted(requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None) -> Any:
            last = next(calls, None) is None
            async for item in generate(requests, sampling, seed=seed):
                yield item
                if last:
                    raise Stop

        self.pool.generate = interrupted  # type: ignore[method-assign]


@pytest.mark.parametrize("at", [0, 2, 4], ids=["before any checkpoint", "at the first episode", "after a checkpoint"])
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(
    tiny_folder: Path, tmp_path: Path, finished: LocalRun, at: int
) -> None:
    with pytest.raises(Stop):
        Killed(at, make_config(), tmp_path, tiny_folder).train()
    assert len(lines(tmp_path)) < len(lines(finished.run_dir))
    resumed = LocalRun(make_config(), tmp_path, tiny_folder).train()
    assert lines(tmp_path, timing=False) == lines(finished.run_dir, timing=False)
    assert (tmp_path / "rollouts.jsonl").read_bytes() == (finished.run_dir / "rollouts.jsonl").read_bytes()
    assert same(weights(resumed.learners.learner), weights(finished.learners.learner))


def test_another_seed_is_another_run(tiny_folder: Path, tmp_path: Path, finished: LocalRun) -> None:
    LocalRun(make_config(run={"seed": 1}), tmp_path, tiny_folder).train()
    assert lines(tmp_path, timing=False) != lines(finished.run_dir, timing=False)


def test_a_finished_run_that_is_started_again_changes_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    config = make_config(batch={"episodes": 1})
    LocalRun(config, tmp_path, tiny_folder).train()
    before = {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "tensorboard" not in str(path)
    }
    LocalRun(config, tmp_path, tiny_folder).train()
    assert all(path.read_bytes() == content for path, content in before.items())


async def _always_right(prompt: Prompt, completion: Completion) -> Rollout:
    return Rollout(completion, {"even": Score(1.0)}, 1.0)


def _logged(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "rollouts.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("staleness", [0, 1], ids=["waves", "stream"])
def test_data_that_teaches_nothing_at_once_is_an_error_and_its_rollouts_can_be_looked_at(
    tiny_folder: Path, tmp_path: Path, staleness: int
) -> None:
    dynamic = {"max_waves": 2}
    rollout = {"max_response_tokens": 4, "max_staleness": staleness, "dynamic_sampling": dynamic}
    config = make_config(run={"deterministic": not staleness}, rollout=rollout)
    with pytest.raises(NothingToLearn, match="all_correct"):
        LocalRun(config, tmp_path, tiny_folder, score=_always_right).train()
    rows = _logged(tmp_path)
    assert len(rows) >= 2 * 16  # two waves of an episode's 16 rollouts
    assert {(row["episode"], row["kept"], row["dropped_reason"]) for row in rows} == {(1, False, "all_correct")}
    assert all(row["response"] is not None and row["scores"]["even"]["value"] == 1.0 for row in rows)


def test_responses_that_cannot_be_scored_can_be_looked_at(tiny_folder: Path, tmp_path: Path) -> None:
    async def broken(prompt: Prompt, completion: Completion) -> Rollout:
        return Rollout(completion, {"even": Score(None, "failed", "raised:KeyError")}, None, "raised:KeyError")

    with pytest.raises(RewardError, match=r"16 of 16 responses .*raised:KeyError"):
        LocalRun(make_config(), tmp_path, tiny_folder, score=broken).train()
    rows = _logged(tmp_path)
    assert len(rows) == 16
    assert {(row["dropped_reason"], row["reward_reason"]) for row in rows} == {("unscored", "raised:KeyError")}


def test_what_was_sampled_before_an_engine_failed_can_be_looked_at(tiny_folder: Path, tmp_path: Path) -> None:
    run = LocalRun(make_config(), tmp_path, tiny_folder)
    generate = run.pool.generate

    async def failing(requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None) -> Any:
        training, left = sampling.temperature == 1.0 and len(requests) == 4, 3
        async for item in generate(requests, sampling, seed=seed):
            if training and not left:
                raise RolloutError("the engine died")
            left -= 1
            yield item
            await asyncio.sleep(0.01)  # the group is scored meanwhile

    run.pool.generate = failing  # type: ignore[method-assign]
    with pytest.raises(RolloutError, match="the engine died"):
        run.train()
    rows = _logged(tmp_path)
    assert len(rows) == 3 * 4  # three groups of four
    assert {row["dropped_reason"] for row in rows} <= {"given_up", "all_correct", "all_wrong"}


def test_a_run_that_ends_well_gives_no_group_up(finished: LocalRun) -> None:
    assert "given_up" not in {row["dropped_reason"] for row in _logged(finished.run_dir)}


def test_a_run_with_nothing_left_to_learn_ends_evaluated_and_saved(tiny_folder: Path, tmp_path: Path) -> None:
    """From the weights after the first episode on, everything is right."""

    async def soon_right(prompt: Prompt, completion: Completion) -> Rollout:
        return await (even if completion.version == 0 else _always_right)(prompt, completion)

    config = make_config(checkpoint={"every_episodes": 10}, eval={"every_episodes": 10})
    run = LocalRun(config, tmp_path, tiny_folder, score=soon_right)
    with pytest.raises(NothingToLearn, match="all_correct"):
        run.train()
    found = lines(tmp_path)
    assert [line["step"] for line in found if "eval/accuracy" in line] == [0, 4]
    checkpoint = checkpoints.latest(tmp_path)
    assert checkpoint is not None
    assert checkpoints.load(checkpoint).step == 4
    saved = AutoModelForCausalLM.from_pretrained(checkpoint / "model")
    assert same(dict(saved.named_parameters()), weights(run.learners.learner))


def test_an_engine_that_ignores_new_weights_stops_the_run(tiny_folder: Path, tmp_path: Path) -> None:
    run = LocalRun(make_config(), tmp_path, tiny_folder)

    async def ignore(folder: str, version: int, *, timeout_s: float) -> None:
        pass

    run.pool.load_weights = ignore  # type: ignore[method-assign]
    with pytest.raises(WeightSyncError, match="does not compute what the learner does with version 1"):
        run.train()
    assert checkpoints.latest(tmp_path) is None  # nothing unproved was saved


async def _one_unscored(prompt: Prompt, completion: Completion) -> Rollout:
    """A first token divisible by 16 cannot be scored."""
    if completion.token_ids[0] % 16 == 0:
        return Rollout(completion, {"even": Score(None, "failed", "judge")}, None, "judge")
    return await even(prompt, completion)


def test_responses_without_a_score_are_counted_and_not_learned_from(tiny_folder: Path, tmp_path: Path) -> None:
    config = make_config(rewards={"max_unscored_rate": 0.9}, batch={"rollouts_per_update": 16, "passes_per_episode": 1})
    run = LocalRun(config, tmp_path, tiny_folder, score=_one_unscored)
    seen: list[int] = []
    update = run.learners.update

    def watched(rows: Sequence[int], *, clip_low: float, clip_high: float) -> dict[str, float]:
        seen.append(len(rows))
        return update(rows, clip_low=clip_low, clip_high=clip_high)

    run.learners.update = watched  # type: ignore[method-assign]
    run.train()
    logged = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    kept = [[row for row in logged if row["kept"] and row["episode"] == number] for number in (1, 2, 3)]
    assert [len(rows) for rows in kept] == [16, 16, 16]
    assert seen == [sum(row["reward"] is not None for row in rows) for rows in kept]
    assert min(seen) < 16
    assert all(row["advantage"] == 0 for rows in kept for row in rows if row["reward"] is None)
    first = next(line for line in lines(tmp_path) if "unscored_fraction" in line)
    assert 0 < first["unscored_fraction"] < 0.5
