"""Real data without a conversion script. The tiny model knows no such words: its accuracy is about 0 and said so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sailrl.config.schema import SourceConfig
from sailrl.data.problems import load_problems
from tests.integration.conftest import ROOT, metrics, run

DATA = ROOT.parent / "shared" / "data"
REGEX = r"####\s*(.+)"

pytestmark = pytest.mark.skipif(
    not (DATA / "gsm8k_test.jsonl").is_file(), reason=f"GSM8K is not at {DATA}; it is not part of the repository"
)


def _source(name: str, **fields: object) -> SourceConfig:
    mapping = {"prompt_field": "question", "answer_field": "answer", "answer_regex": REGEX}
    return SourceConfig.model_validate({"path": str(DATA / name), **mapping, **fields})


@pytest.mark.parametrize(("name", "rows"), [("gsm8k_train.jsonl", 7473), ("gsm8k_test.jsonl", 1319)])
def test_all_rows_load_with_a_number_as_answer(name: str, rows: int) -> None:
    loaded = load_problems(_source(name), on_bad_row="error")
    assert len(loaded.problems) == rows
    assert not loaded.bad_rows
    for problem in loaded.problems:
        float(str(problem.answer).replace(",", ""))
        assert isinstance(problem.prompt, str)
        assert problem.prompt


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_episode_on_gsm8k_runs_and_reports_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train, test = (
        f"{{path: {DATA / name}, prompt_field: question, answer_field: answer, answer_regex: '{REGEX}', limit: 24}}"
        for name in ("gsm8k_train.jsonl", "gsm8k_test.jsonl")
    )
    done = run(
        folder,
        f"data.train={train}",
        f"data.eval={test}",
        "warm_start.steps=30",
        "data.max_prompt_tokens=900",
        "rollout.dynamic_sampling.enabled=false",
        "rollout.max_response_tokens=32",
        "batch={group_size: 4, rollouts_per_episode: 16, rollouts_per_update: 16, passes_per_episode: 1, episodes: 1}",
    )
    assert done.code == 0, done.output
    lines = metrics(folder)
    accuracies = [line["eval/accuracy"] for line in lines if "eval/accuracy" in line]
    assert len(accuracies) == 2
    assert max(accuracies) <= 0.1  # a lucky number at most
    update = next(line for line in lines if "accuracy" in line)
    assert 0 <= update["accuracy"] <= 0.1
    assert update["mismatch/max_abs_dlogp"] < 1e-4
    rows = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    assert all(row["prompt"].count(" ") > 5 for row in rows)  # these are the word problems
