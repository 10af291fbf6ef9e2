"""What rewards count is in the metrics of a run, and accuracy is the share of right responses there."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sailrl.launch.engines import score_rollout
from sailrl.scoring.scorer import Scorer
from sailrl.scoring.spec import PartSpec, ScoringSpec
from tests.fakes.local_run import LocalRun, make_config

S = "tests.unit.scoring.sample_rewards"


@pytest.fixture(scope="module")
def lines(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("run") / "run"
    config = make_config(eval={"every_episodes": 1, "samples": 5})
    parts = {"even": PartSpec(f"{S}:EvenLength", {}, 1.0), "broken": PartSpec(f"{S}:MetricsRaise")}
    with Scorer(ScoringSpec(parts)) as scorer:
        run = LocalRun(config, folder, tiny_folder, score=partial(score_rollout, scorer), eval_prompts=3)
        run.session.score_metrics = scorer.metrics
        run.train()
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_lines_of_an_episode_count_how_its_responses_were_scored(lines: list[dict[str, Any]]) -> None:
    updates = [line for line in lines if "entropy" in line]
    assert len(updates) == 12  # 3 episodes of 2 updates, 2 passes
    for line in updates:
        groups = line["groups/kept"] + line["groups/dropped"]
        assert line["score/even/scored"] == line["score/even/inline"] == 4 * groups
        odd, even = (line.get(f"score/even/reason/{name}", 0) for name in ("odd", "even"))
        assert odd + even == 4 * groups
        assert line["accuracy"] == pytest.approx(even / (4 * groups))  # an odd one has half of the points
        assert line["reward/even"] == pytest.approx((even + odd / 2) / (4 * groups))
        assert line["score/even/latency_s/max"] >= line["score/even/latency_s/mean"] >= 0


def test_an_evaluation_counts_its_own_responses(lines: list[dict[str, Any]]) -> None:
    evaluations = [line for line in lines if "eval/accuracy" in line]
    assert len(evaluations) == 4
    for line in evaluations:
        assert line["eval/score/even/scored"] == 15  # 3 problems x 5 samples
        right = line.get("eval/score/even/reason/even", 0) / 15
        assert line["eval/accuracy"] == pytest.approx(right)
        assert line["eval/reward/even"] == pytest.approx((1 + right) / 2)


def test_a_reward_whose_own_metrics_fail_does_not_end_the_run(lines: list[dict[str, Any]]) -> None:
    assert all(line["score/broken/metrics_failed"] == 1 for line in lines if "entropy" in line)
    assert all("score/broken/fine" not in line for line in lines)
