"""The table of metrics describes what runs log: no key that is not in it, and no entry that nothing logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sailrl.config.sft import SftConfig
from sailrl.data.batch import collate
from sailrl.demo import tiny_text
from sailrl.launch.engines import score_rollout
from sailrl.learner.objective import UpdateScope, measure, summary
from sailrl.report.metric_table import EVAL_METRICS, SFT_METRICS, UPDATE_METRICS, Metric, fixed_keys
from sailrl.scoring.scorer import Scorer
from sailrl.scoring.spec import PartSpec, ScoringSpec
from sailrl.sft.start import start_sft
from tests.fakes.judge_server import Action, Refuse, Say, judge_server
from tests.fakes.local_run import LocalRun, make_config
from tests.fakes.tiny_learner import make_learner, make_samples, make_scope


def _lines(folder: Path) -> list[set[str]]:
    """The keys of each line of a run's metrics."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line.keys() - {"nonfinite"} for line in found]


def _of_images() -> set[str]:
    """What an update logs when its responses are to prompts with images."""
    batch = replace(collate(make_samples(2)), images=(("picture",), ("picture",)))
    tokens = int(batch.mask.sum())
    scope = UpdateScope(tokens, 2, 0.2, 0.28, image_tokens=tokens)
    return set(summary(measure(torch.zeros_like(batch.engine_logp), batch.engine_logp, batch.mask, batch, scope)))


def _of_float16(folder: Path) -> set[str]:
    samples = make_samples(4)
    learner = make_learner(folder, dtype="float16")
    learner.set_episode(samples)
    return set(learner.update(range(4), make_scope(samples)))


@pytest.fixture(scope="module")
def logged(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[set[str]]:
    """The lines of a dense run and of one with experts, both with everything on that adds keys."""
    root = tmp_path_factory.mktemp("runs")
    tiny_text.build(root / "model", hidden_size=32, layers=1, experts=4)
    dense = make_config(algorithm={"name": "dapo", "dual_clip": 3.0, "kl_coef": 0.01})
    experts = make_config(batch={"episodes": 1}, learner={"routing_replay": "r2", "router_aux_coef": 0.01})
    for name, config, model in (("dense", dense, tiny_folder), ("experts", experts, root / "model")):
        with judge_server(_often_right) as server, Scorer(_rewards(server.url)) as scorer:
            run = LocalRun(config, root / name, model, score=partial(score_rollout, scorer))
            run.session.score_metrics = scorer.metrics
            run.session.text_probe = run.session.eval_prompts
            run.train()
    return [*_lines(root / "dense"), *_lines(root / "experts")]


def _often_right(body: dict[str, Any], number: int) -> Action:
    return Refuse(418) if number == 3 else Say('{"is_correct": true}')


def _rewards(url: str) -> ScoringSpec:
    """The part of the fake runs' configuration, and a judge that is watched."""
    judge = {"base_url": url, "model": "m", "backoff_s": 0.001}
    even = PartSpec("tests.unit.scoring.sample_rewards:EvenLength", {}, 1.0)
    return ScoringSpec({"even": even, "judge": PartSpec("rewards.judge:Judge", judge)})


def _described_by(key: str, metrics: tuple[Metric, ...]) -> Metric | None:
    """The entry of that name, else one whose form it has; None for an unknown key."""
    by_form = (metric for metric in metrics if re.fullmatch(re.sub("<[^>]+>", "[^/]+", metric.key), key))
    return next((metric for metric in metrics if metric.key == key), next(by_form, None))


def _unknown(keys: Iterable[str], metrics: tuple[Metric, ...]) -> list[str]:
    return sorted(key for key in keys if _described_by(key, metrics) is None)


def _unused(keys: Iterable[str], metrics: tuple[Metric, ...]) -> list[str]:
    used = {_described_by(key, metrics) for key in keys}
    return [metric.key for metric in metrics if metric not in used]


def test_every_number_of_an_update_is_in_the_table_and_every_entry_is_logged(
    logged: list[set[str]], tiny_folder: Path
) -> None:
    keys = set().union(*(line for line in logged if "entropy" in line))
    assert "groups/dropped_all_wrong" in keys or "groups/dropped_all_correct" in keys
    keys |= _of_images() | _of_float16(tiny_folder)
    assert not _unknown(keys, UPDATE_METRICS)
    assert not _unused(keys, UPDATE_METRICS)


def test_what_needs_nothing_special_is_on_every_line_of_an_update(logged: list[set[str]]) -> None:
    plain = [metric.key for metric in UPDATE_METRICS if not metric.when and "<" not in metric.key]
    assert set(fixed_keys(UPDATE_METRICS)) <= set(plain)
    for line in logged:
        assert "entropy" not in line or not set(plain) - line


def test_every_number_of_an_evaluation_is_in_the_table_and_every_entry_is_logged(logged: list[set[str]]) -> None:
    lines = [line for line in logged if "eval/accuracy" in line]
    plain = [metric.key for metric in EVAL_METRICS if not metric.when and "<" not in metric.key]
    for line in lines:
        assert not set(plain) - line
    assert not _unknown(set().union(*lines), EVAL_METRICS)
    assert not _unused(set().union(*lines), EVAL_METRICS)


def test_every_number_of_a_supervised_step_is_in_the_table_and_every_entry_is_logged(tmp_path: Path) -> None:
    tiny_text.build(tmp_path / "experts", hidden_size=32, layers=1, experts=4)
    rows = {"use": "sailrl.demo.additions:rows", "args": {"count": 4, "seed": 1}}
    config = SftConfig.model_validate(
        {
            "kind": "sft",
            "model": {"path": str(tmp_path / "experts"), "dtype": "float16"},
            "data": {"train": {"generate": rows}},
            "training": {"rows_per_step": 4},
            "learner": {"router_aux_coef": 0.01},
        }
    )
    start_sft(config, tmp_path / "run")
    (line,) = _lines(tmp_path / "run")
    assert not _unknown(line, SFT_METRICS)
    assert not _unused(line, SFT_METRICS)


def test_a_key_that_is_not_in_the_table_and_an_entry_that_nothing_logs_are_seen() -> None:
    metrics = (Metric("loss", "The loss."), Metric("reward/<name>", "A reward."))
    assert _unknown(["loss", "reward/a", "reward/a/b", "lost"], metrics) == ["lost", "reward/a/b"]
    assert _unused(["loss"], metrics) == ["reward/<name>"]
