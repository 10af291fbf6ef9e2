"""The numbers and the table of an evaluation; the engines themselves are tried in the integration tests."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sailrl.commands.eval import _missing, _numbers, _same_but_weights, _what
from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.schema import ModelConfig
from sailrl.report.evals import EVALS, print_evals
from sailrl.types import Completion, Group, Problem, Prompt, Rollout, Score


def _group(*values: float | None) -> Group:
    rollouts = []
    for value in values:
        score = Score(None, "failed", "away") if value is None else Score(value)
        completion = Completion([1] * (2 if value else 4), [], "", "length" if value == 0 else "stop", 0)
        rollouts.append(Rollout(completion, {"boxed": score}, value))
    return Group(Prompt(Problem(), [], []), rollouts)


def test_accuracy_is_a_mean_over_problems_and_unscored_responses_are_no_zeros() -> None:
    numbers = _numbers([_group(1.0, None), _group(0.0, 1.0), _group(None, None)], "boxed")
    assert numbers["accuracy"] == pytest.approx(0.75)  # (1 + 1/2) / 2; the third problem says nothing
    # Standard error: deviations 1/4 and -1/4, variance (1/16 + 1/16) / 1 = 1/8, over 2 problems 1/16, root 1/4.
    assert numbers["standard_error"] == pytest.approx(0.25)
    assert numbers["response_tokens"] == pytest.approx((2 + 4 + 4 + 2 + 4 + 4) / 6)
    assert (numbers["problems"], numbers["unscored"], numbers["truncated"]) == (3, 3, 1)


def _config(model: str | Path, **rollout: float) -> EvaluateConfig:
    return EvaluateConfig.model_validate(
        {
            "kind": "eval",
            "models": {"a": {"path": str(model)}},
            "data": {"problems": {"path": "held_out.jsonl"}},
            "rewards": {"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
            "rollout": rollout,
        }
    )


def test_the_table_has_a_row_per_model_and_two_columns_per_way(tmp_path: Path) -> None:
    lines = [
        {"model": "a", "asked": "thinking", "accuracy": 0.5, "standard_error": 0.01, "response_tokens": 30.0},
        {"model": "a", "asked": "direct", "accuracy": None, "standard_error": None, "response_tokens": 5.25},
        {"model": "b", "asked": "thinking", "accuracy": 0.75, "standard_error": 0.01, "response_tokens": 29.0},
    ]
    (tmp_path / EVALS).write_text("".join(json.dumps({**line, "problems": 512}) + "\n" for line in lines))
    output = io.StringIO()
    print_evals(tmp_path, Console(file=output, width=120))
    shown = output.getvalue()
    assert "512 held-out problems" in shown
    rows = {line.split()[1]: line for line in shown.splitlines() if line.startswith("│")}
    assert "50.0% ± 1.0" in rows["a"]
    assert "30.0" in rows["a"]
    assert rows["b"].count("–") == 2  # not tried yet


def test_what_was_tried_with_other_settings_is_tried_again_and_shown_as_last_found(tmp_path: Path) -> None:
    short, long = (_what(_config("m", max_response_tokens=limit), "a", "direct", "0f") for limit in (128, 256))
    assert short != long
    same = _what(_config("m", max_response_tokens=256, workers=2), "a", "direct", "0f")  # which changes no answer
    assert long == same
    found = {"standard_error": None, "response_tokens": 9.0}
    lines = [{**short, **found, "accuracy": 0.25, "problems": 900}, {**long, **found, "accuracy": 0.5, "problems": 512}]
    (tmp_path / EVALS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = io.StringIO()
    print_evals(tmp_path, Console(file=output, width=120))
    assert ": 512" in output.getvalue()
    assert "50.0%" in output.getvalue()
    assert "25.0%" not in output.getvalue()


def test_engines_are_kept_for_models_that_differ_in_weights_only(tmp_path: Path) -> None:
    def model(name: str, **files: str) -> ModelConfig:
        (tmp_path / name).mkdir()
        for file, text in {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": name, **files}.items():
            (tmp_path / name / file).write_text(text)
        return ModelConfig(path=str(tmp_path / name))

    a = model("a", **{"model.safetensors.index.json": "one file"})
    assert _same_but_weights(a, model("b", **{"model.safetensors.index.json": "two files"}))
    assert not _same_but_weights(a, model("wider", **{"config.json": '{"x": 1}'}))
    assert not _same_but_weights(a, model("other words", **{"tokenizer.json": '{"x": 1}'}))
    assert not _same_but_weights(a, model("other end", **{"generation_config.json": '{"eos_token_id": 2}'}))
    assert not _same_but_weights(a, a.model_copy(update={"dtype": "float32"}))
    assert not _same_but_weights(ModelConfig(path="org/model"), ModelConfig(path="org/model2"))


def test_weights_that_changed_at_the_same_path_are_tried_again(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "model.safetensors"
    config = _config(tmp_path / "model")
    weights.write_text("first")
    done = list(_missing(config, []).values())
    assert len(done) == len(config.instructions)
    assert _missing(config, done) == {}
    weights.write_text("second")
    assert list(_missing(config, done)) == [("a", asked) for asked in config.instructions]
