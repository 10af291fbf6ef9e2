"""The numbers and the table of an evaluation; the engines themselves are tried in the integration tests."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.schema import ModelConfig
from sailrl.jobs.start_eval import _numbers, _same_shape, _what
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
    def config(**rollout: float) -> EvaluateConfig:
        return EvaluateConfig.model_validate(
            {
                "kind": "eval",
                "models": {"a": {"path": "org/model"}},
                "data": {"problems": {"path": "held_out.jsonl"}},
                "rewards": {"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
                "rollout": rollout,
            }
        )

    short, long = (_what(config(max_response_tokens=limit), "a", "direct") for limit in (128, 256))
    assert short != long
    assert long == _what(config(max_response_tokens=256, workers=2), "a", "direct")  # which changes no answer
    found = {"standard_error": None, "response_tokens": 9.0}
    lines = [{**short, **found, "accuracy": 0.25, "problems": 900}, {**long, **found, "accuracy": 0.5, "problems": 512}]
    (tmp_path / EVALS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = io.StringIO()
    print_evals(tmp_path, Console(file=output, width=120))
    assert ": 512" in output.getvalue()
    assert "50.0%" in output.getvalue()
    assert "25.0%" not in output.getvalue()


def test_engines_are_kept_for_models_of_one_shape_only(tmp_path: Path) -> None:
    for name, text in (("a", "{}"), ("b", "{}"), ("c", '{"x": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    a, b, c = (ModelConfig(path=str(tmp_path / name)) for name in "abc")
    assert _same_shape(a, b)
    assert not _same_shape(a, c)
    assert not _same_shape(a, b.model_copy(update={"dtype": "float32"}))
    assert not _same_shape(ModelConfig(path="org/model"), ModelConfig(path="org/model2"))
