"""The model of the pipeline in time, against pencil and paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.simulate import Costs, Outcome, Pipeline, Shape, measure

COSTS = Costs(step_s=0.01, token_s=0.001, learn_token_s=0.002, learn_s=0.1, sync_s=0.5, other_s=0.2)
ALIKE = [[100, 100]]  # groups of two responses of 100 tokens


def _run(shape: Shape, groups: list[list[int]] = ALIKE, episodes: int = 20) -> Outcome:
    return Pipeline(COSTS, shape, groups).run(episodes)


def test_a_synchronous_step_is_the_sum_of_its_phases() -> None:
    # 10 groups: 100 steps of 0.01 + 20 x 0.001 = 3 s; learning 0.1 + 2,000 x 0.002 = 4.1; 0.5; 0.2
    assert _run(Shape(engines=1, ranks=1, prompts=10)).step_s == pytest.approx(3.0 + 4.1 + 0.5 + 0.2)
    # Two engines have 10 responses each: 100 x (0.01 + 0.01) = 2 s. Two ranks: 0.1 + 2 = 2.1.
    assert _run(Shape(engines=2, ranks=2, prompts=10)).step_s == pytest.approx(2.0 + 2.1 + 0.5 + 0.2)


def test_an_asynchronous_step_is_the_longer_of_the_two() -> None:
    # Generating an episode takes 3 s and fits into the 4.8 s of learning and publishing.
    outcome = _run(Shape(engines=1, ranks=1, prompts=10, staleness=1))
    assert outcome.step_s == pytest.approx(4.8, rel=0.02)
    assert outcome.bottleneck() == "learning"
    # With four ranks (0.1 + 1 + 0.5 + 0.2 = 1.8 s) it does not, and engines stand still for 0.5 s of each step.
    outcome = _run(Shape(engines=1, ranks=4, prompts=10, staleness=1))
    assert 3.0 < outcome.step_s < 3.6
    assert outcome.bottleneck() == "generating"


def test_a_synchronous_episode_waits_for_its_longest_response() -> None:
    """One response of 1,000 tokens among nineteen of 100: all together 3 s, then 900 steps of one at 0.011."""
    groups = [[100, 100]] * 9 + [[100, 1000]]
    pipeline = Pipeline(COSTS, Shape(engines=1, ranks=1, prompts=10), groups)
    numbers = iter(range(1000))
    pipeline.draw.choice = lambda _: groups[next(numbers) % 10]  # type: ignore[method-assign, assignment, return-value]
    outcome = pipeline.run(10)
    # tokens: 19 x 100 + 1,000 = 2,900, learned in 0.1 + 5.8 s
    assert outcome.step_s == pytest.approx(3.0 + 9.9 + 5.9 + 0.5 + 0.2)
    assert outcome.bottleneck() == "longest response"


def test_on_a_shared_machine_engines_and_ranks_take_turns_when_cores_run_out() -> None:
    # Two engines of 10 responses on two cores: 2 s as on devices of their own, since nobody learns meanwhile.
    two = _run(Shape(engines=2, ranks=1, prompts=10, cores=2))
    assert two.step_s == pytest.approx(2.0 + 4.1 + 0.5 + 0.2)
    # Four, of 5 responses: 100 x (0.01 + 0.005) = 1.5 s at half speed.
    four = _run(Shape(engines=4, ranks=1, prompts=10, cores=2))
    assert four.step_s == pytest.approx(3.0 + 4.1 + 0.5 + 0.2)
    # One core, generating while learning: 3 + 4.1 s of work in a row, a publish of 0.5 s that lets nobody work, and
    # 0.2 s that the engine can use.
    turns = _run(Shape(engines=1, ranks=1, prompts=10, staleness=1, cores=1))
    assert turns.step_s == pytest.approx(3.0 + 4.1 + 0.5, abs=0.25)


def test_what_goes_on_around_an_engine_takes_cores_too() -> None:
    # 2 engines that take a core and a half each have two thirds of that on two cores: 2 s of generating become 3.
    alone = _run(Shape(engines=2, ranks=1, prompts=10, cores=2))
    around = _run(Shape(engines=2, ranks=1, prompts=10, cores=2, around=0.5))
    assert around.step_s - alone.step_s == pytest.approx(1.0, abs=0.05)
    # One engine and its surroundings fit.
    one = [_run(Shape(engines=1, ranks=1, prompts=10, cores=2, around=share)).step_s for share in (0.0, 0.5)]
    assert one[0] == one[1]


def test_a_run_that_follows_the_model_is_calibrated_to_it(tmp_path: Path) -> None:
    config = {
        "batch": {"rollouts_per_episode": 4, "group_size": 2},
        "rollout": {"workers": 1, "max_staleness": 0, "engine": {"max_concurrent": 64}},
        "learner": {"ranks": 1, "threads": None},
    }
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(config))
    metrics, rollouts = [], []
    for episode, lengths in enumerate(([10, 20, 30, 40], [10, 10, 10, 90], [30, 30, 30, 31], [5, 5, 60, 80]), start=1):
        times = {"generate": 0.01 * max(lengths) + 0.001 * sum(lengths), "learn": 0.002 * sum(lengths)}
        times |= {"sync": 0.5, "other": 0.2}
        metrics.append({"episode": episode, "grad_norm": 1.0, **{f"time/{k}_s": v for k, v in times.items()}})
        rollouts += [
            {"episode": episode, "group": n // 2, "response_tokens": length} for n, length in enumerate(lengths)
        ]
    for name, rows in (("metrics", metrics), ("rollouts", rollouts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    costs = measure(tmp_path, cores=0, around=0.0).costs
    assert (costs.step_s, costs.token_s, costs.learn_token_s) == pytest.approx((0.01, 0.001, 0.002))
    assert (costs.sync_s, costs.other_s) == (0.5, 0.2)
