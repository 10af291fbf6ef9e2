"""What a person gets wrong costs seconds: exit code 2 and one paragraph, before any engine starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import Finished, run

pytestmark = pytest.mark.slow


def _refused(folder: Path, *overrides: str) -> str:
    """Runs the tiny config with ``overrides`` and returns the error's text."""
    done = run(folder, *overrides)
    _check(done)
    return done.output[done.output.index("error: ") :]


def _check(done: Finished) -> None:
    assert done.code == 2, done.output
    assert "Traceback" not in done.output
    assert "starting" not in done.output  # the stage of engines and learner
    error = done.output[done.output.index("error: ") :].strip()
    assert "\n\n" not in error
    assert len(error) < 1200
    assert not (done.folder / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("learner.learning_rat=1e-3", ["learning_rat", "learning_rate"]),  # the nearest known key
        ("batch.group_size=eight", ["batch.group_size", "eight"]),
        ("batch.group_size=1", ["batch.group_size", "1", "2"]),
        ("batch.rollouts_per_update=100", ["batch.rollouts_per_update", "100", "64"]),
        ("data.train={path: nowhere/missing.jsonl}", ["data.train.path", "nowhere/missing.jsonl"]),
        ("rewards.parts.boxed.use=rewards.boxed:BoxedAnswr", ["BoxedAnswr", "BoxedAnswer"]),
        ("rewards.parts.boxed.use=no_such_module:Reward", ["no_such_module"]),
    ],
    ids=[
        "unknown key",
        "wrong type",
        "group of one",
        "indivisible batch",
        "missing file",
        "unknown reward",
        "no module",
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(tmp_path: Path, override: str, said: list[str]) -> None:
    error = _refused(tmp_path / "run", override)
    assert all(word in error for word in said), error


def test_a_row_without_a_prompt_is_named_with_file_and_line(tmp_path: Path) -> None:
    data = tmp_path / "bad.jsonl"
    rows = [{"prompt": "1+1=?", "answer": "2"}, {"answer": "3"}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    error = _refused(tmp_path / "run", f"data.train={{path: {data}}}")
    assert "bad.jsonl" in error
    assert "2" in error
    assert "prompt" in error


def test_a_model_folder_without_weights_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    from sailrl.demo import tiny_text

    folder = tmp_path / "model"
    tiny_text.build(folder, hidden_size=32, layers=1)
    (folder / "model.safetensors").unlink()
    error = _refused(tmp_path / "run", f"model={{path: {folder}, dtype: float32}}")
    assert str(folder) in error
    assert "*.safetensors" in error


def test_prompts_that_are_all_too_long_are_an_error_with_the_limit(tmp_path: Path) -> None:
    error = _refused(tmp_path / "run", "data.max_prompt_tokens=3")
    assert "data.max_prompt_tokens = 3" in error
    shutil.rmtree(tmp_path / "run")
    strict = _refused(tmp_path / "run", "data.max_prompt_tokens=3", "data.on_long_prompt=error")
    assert "data.max_prompt_tokens is 3" in strict
