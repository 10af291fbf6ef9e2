"""The numbers and the table of an evaluation; the engines themselves are tried in the integration tests."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from data_filters.reading import _file_digest as image_digests
from sailrl.commands.eval import _line, _same_but_weights, _settings, _wanted
from sailrl.commands.eval_sets import HeldOut
from sailrl.config.benchmarks import AVERAGES, BENCHMARKS
from sailrl.config.checks import preflight, validate
from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.load import load
from sailrl.config.rewards import RewardsConfig
from sailrl.config.schema import ModelConfig
from sailrl.errors import ConfigError
from sailrl.report.evals import EVALS, print_evals
from sailrl.types import Completion, Frame, Group, Problem, Prompt, Rollout, Score


def _group(*values: float | None) -> Group:
    rollouts = []
    for value in values:
        score = Score(None, "failed", "away") if value is None else Score(value)
        completion = Completion([1] * (2 if value else 4), [], "", "length" if value == 0 else "stop", 0)
        rollouts.append(Rollout(completion, {"boxed": score}, value))
    return Group(Prompt(Problem(), [], []), rollouts)


def test_accuracy_is_the_share_of_right_responses_and_unscored_responses_are_no_zeros() -> None:
    numbers = _numbers([_group(1.0, None), _group(0.0, 1.0), _group(None, None)], "boxed")
    assert numbers["accuracy"] == pytest.approx(2 / 3)  # 2 of 3; the third problem says nothing
    # Standard error: right less expected is 1 - 2/3 = 1/3 and 1 - 4/3 = -1/3, the squares sum to 2/9; times m / (m - 1)
    # = 2 / 1 it is 4/9, its root 2/3, over 3 responses 2/9.
    assert numbers["standard_error"] == pytest.approx(2 / 9)
    assert numbers["response_tokens"] == pytest.approx((2 + 4 + 4 + 2 + 4 + 4) / 6)
    assert (numbers["problems"], numbers["unscored"], numbers["truncated"]) == (3, 3, 1)


def test_partial_credit_is_not_right() -> None:
    numbers = _numbers([_group(0.9, 0.5, 0.6 + 0.3 + 0.1, 0.0)], "boxed")
    assert numbers["accuracy"] == 0.25  # the third is a full 1 up to rounding; the mean score would be 0.6
    assert numbers["unscored"] == 0


def test_with_as_many_responses_to_each_problem_the_error_is_that_of_the_mean_over_problems() -> None:
    numbers = _numbers([_group(1.0, 1.0), _group(0.0, 1.0), _group(0.0, 0.0)], "boxed")
    # accuracies 1, 1/2, 0: variance (1/4 + 0 + 1/4) / 2 = 1/4, over 3 problems 1/12
    assert numbers["standard_error"] == pytest.approx((1 / 12) ** 0.5)


def _numbers(groups: list[Group], part: str) -> dict[str, Any]:
    rewards = {"parts": {part: {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}}
    return HeldOut([], RewardsConfig.model_validate(rewards)).numbers(groups)


def _config(model: str | Path, **sections: Any) -> EvaluateConfig:
    return EvaluateConfig.model_validate(
        {
            "kind": "eval",
            "models": {"a": {"path": str(model)}},
            "data": {"problems": {"path": "held_out.jsonl"}},
            "rewards": {"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
            **sections,
        }
    )


def test_the_table_has_a_row_per_model_and_three_columns_per_way(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"model": "a", "asked": "thinking", "accuracy": 0.5, "standard_error": 0.01, "response_tokens": 30.0},
        {"model": "a", "asked": "direct", "accuracy": None, "standard_error": None, "response_tokens": 5.25},
        {"model": "b", "asked": "thinking", "accuracy": 0.75, "standard_error": 0.01, "response_tokens": 29.0},
    ]
    all_have = {"problems": 512, "samples": 2, "truncated": 256}
    (tmp_path / EVALS).write_text("".join(json.dumps({**line, **all_have}) + "\n" for line in lines))
    output = io.StringIO()
    print_evals(tmp_path, console=Console(file=output, width=120))
    shown = output.getvalue()
    assert "512 held-out problems" in shown
    rows = {line.split()[1]: line for line in shown.splitlines() if line.startswith("│")}
    assert "50.0% ± 1.0" in rows["a"]
    assert "30.0" in rows["a"]
    assert rows["a"].count("25.0%") == 2  # 256 of 2 x 512 responses were cut at the limit, in either way
    assert rows["b"].count("–") == 3  # not tried yet


PROBLEMS = [Problem(prompt="1+1=?", answer="2"), Problem(prompt="2+2=?", answer="4")]


def _settings_of(problems: list[Problem] = PROBLEMS, **sections: Any) -> str:
    config = _config("m", **sections)
    return _settings(config, _set(config, problems))


def _set(config: EvaluateConfig, problems: list[Problem]) -> HeldOut:
    assert config.rewards is not None
    return HeldOut(problems, config.rewards)


def test_the_content_of_the_problems_decides_on_a_line_and_not_the_name_of_their_file(tmp_path: Path) -> None:
    image, frame = tmp_path / "a.png", Frame(b"pixels", 0.5)
    image.write_bytes(b"first")
    pictured = [replace(PROBLEMS[0], images=[str(image)]), replace(PROBLEMS[1], videos=[[frame]])]
    same = _settings_of()
    assert _settings_of(data={"problems": {"path": "moved.jsonl"}}) == same
    others = [
        _settings_of(PROBLEMS[:1]),
        _settings_of([PROBLEMS[0], replace(PROBLEMS[1], answer="5")]),
        _settings_of([PROBLEMS[0], replace(PROBLEMS[1], prompt="2 + 2 = ?")]),
        _settings_of([PROBLEMS[0], replace(PROBLEMS[1], choices=["3", "4"])]),
        _settings_of(pictured),
        _settings_of([pictured[0], replace(pictured[1], videos=[[replace(frame, time_s=1.0)]])]),
        _settings_of([pictured[0], replace(pictured[1], videos=[[replace(frame, image=b"others")]])]),
    ]
    image.write_bytes(b"second")
    image_digests.cache_clear()  # what the next process does
    others.append(_settings_of(pictured))
    assert len({same, *others}) == len(others) + 1


def test_what_changes_an_answer_or_its_score_is_in_the_fingerprint_and_the_engine_s_size_is_not() -> None:
    boxed = {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}
    other = {"use": "rewards.repetition:Repetition", "weight": 0.0}
    same = _settings_of()
    assert _settings_of(rollout={"workers": 2, "engine": {"max_concurrent": 4, "enforce_eager": True}}) == same
    assert _settings_of(run={"seed": 7}) == same  # nothing is seeded without run.deterministic
    changed = [
        _settings_of(rollout={"max_response_tokens": 256}),
        _settings_of(rollout={"top_p": 0.9}),
        _settings_of(rollout={"engine": {"images_per_prompt": 2}}),
        _settings_of(run={"deterministic": True}),
        _settings_of(run={"deterministic": True, "seed": 7}),
        _settings_of(data={"problems": {"path": "p"}, "system_prompt": "Be brief."}),
        _settings_of(data={"problems": {"path": "p"}, "max_pixels": 1000}),
        _settings_of(data={"problems": {"path": "p"}, "frames_per_video": 2}),
        _settings_of(data={"problems": {"path": "p"}, "write_choices": True}),
        _settings_of(data={"problems": {"path": "p"}, "template_args": {"enable_thinking": False}}),
        _settings_of(data={"problems": {"path": "p"}, "max_prompt_tokens": 100}),
        _settings_of(rewards={"parts": {"boxed": {**boxed, "weight": 0.5}, "other": {**other, "weight": 0.5}}}),
        _settings_of(rewards={"parts": {"boxed": {**boxed, "args": {"deadline_s": 9}}}}),
        _settings_of(rewards={"parts": {"boxed": boxed, "other": other}, "accuracy": "boxed"}),
        _settings_of(rewards={"parts": {"boxed": boxed, "other": other}, "accuracy": "other"}),
    ]
    assert len({same, *changed}) == len(changed) + 1


def test_the_text_of_a_chat_template_is_in_the_fingerprint_and_its_path_is_not(tmp_path: Path) -> None:
    found = []
    for name, text in (("a.jinja", "{{ messages }}"), ("b.jinja", "{{ messages }}"), ("a.jinja", "{{ messages[0] }}")):
        (tmp_path / name).write_text(text)
        found.append(_settings_of(data={"problems": {"path": "p"}, "chat_template": str(tmp_path / name)}))
    assert found[0] == found[1] != found[2]
    assert _settings_of() not in found


def test_code_of_a_reward_that_changed_is_in_the_fingerprint(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def score(response, problem):\n    return 1.0\n")
    rewards = {"parts": {"mine": {"use": f"{mine}:score", "weight": 1.0}}}
    before = _settings_of(rewards=rewards)
    mine.write_text("def score(response, problem):\n    return 0.5\n")
    assert _settings_of(rewards=rewards) != before


def test_the_table_shows_the_lines_of_this_configuration_even_when_another_was_tried_later(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    config, other = _config(tmp_path / "m"), PROBLEMS[:1]
    found = {"standard_error": None, "response_tokens": 9.0}
    (tmp_path / EVALS).write_text(
        "".join(
            json.dumps({**what, **found, "accuracy": accuracy, "problems": len(problems)}) + "\n"
            for problems, accuracy in ((PROBLEMS, 0.25), (other, 0.5))
            for what in _wanted(config, _set(config, problems)).values()
        )
    )
    for problems, accuracy in ((PROBLEMS, 0.25), (other, 0.5)):
        lines = [_line(what, tmp_path) for what in _wanted(config, _set(config, problems)).values()]
        assert [line and line["accuracy"] for line in lines] == [accuracy, accuracy]
    changed = [PROBLEMS[0], replace(PROBLEMS[1], answer="5")]
    assert [_line(what, tmp_path) for what in _wanted(config, _set(config, changed)).values()] == [None, None]


def test_engines_are_kept_for_models_that_differ_in_weights_only(tmp_path: Path) -> None:
    def model(name: str, **files: str) -> ModelConfig:
        (tmp_path / name).mkdir()
        for file, text in {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": name, **files}.items():
            (tmp_path / name / file).write_text(text)
        return ModelConfig(path=str(tmp_path / name))

    a = model("a", **{"model.safetensors.index.json": "one file"})
    assert _same_but_weights(a, model("b", **{"model.safetensors.index.json": "two files"}))
    assert _same_but_weights(a, model("built", **{".made.json": '{"by": {}}'}))
    assert not _same_but_weights(a, model("wider", **{"config.json": '{"x": 1}'}))
    assert not _same_but_weights(a, model("other words", **{"tokenizer.json": '{"x": 1}'}))
    assert not _same_but_weights(a, model("other end", **{"generation_config.json": '{"eos_token_id": 2}'}))
    assert not _same_but_weights(a, a.model_copy(update={"dtype": "float32"}))
    assert not _same_but_weights(ModelConfig(path="org/model"), ModelConfig(path="org/model2"))


def test_weights_that_changed_at_the_same_path_are_another_line(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "model.safetensors"
    config = _config(tmp_path / "model")
    weights.write_text("first")
    before = _wanted(config, _set(config, PROBLEMS))
    assert _wanted(config, _set(config, PROBLEMS)) == before
    weights.write_text("second")
    assert all(what != before[key] for key, what in _wanted(config, _set(config, PROBLEMS)).items())


# --- benchmarks -------------------------------------------------------------------------------------------------------


def test_the_table_of_benchmarks_has_what_is_published_and_the_mean_where_all_its_parts_are_there(
    tmp_path: Path,
) -> None:
    parts, _ = AVERAGES["OpenCompass reasoning"]
    numbers = {"standard_error": 0.02, "response_tokens": 9.0, "problems": 40, "samples": 1, "truncated": 10}
    lines = [
        {"model": "a", "asked": "thinking", "benchmark": name, "published": BENCHMARKS[name].published, **numbers}
        | {"accuracy": 0.1 * number}
        for number, name in enumerate((*parts, "chartqa"))
    ]
    lines.append({**lines[-1], "model": "b"})
    output = io.StringIO()
    print_evals(tmp_path, lines, Console(file=output, width=160))
    rows = {line.split("│")[1].strip(): line for line in output.getvalue().splitlines() if line.startswith("│")}
    assert "10.0% ± 2.0" in rows["mathvision"]
    assert "46.7%" in rows["mathvision"]
    assert "25.0%" in rows["mathvision"]  # 10 of 40 were cut off
    assert rows["chartqa"].count("60.0%") == 2
    assert "25.0%" in rows["mean: OpenCompass reasoning"]  # 0, 10, ... 50%
    assert "54.4%" in rows["mean: OpenCompass reasoning"]
    assert rows["mean: OpenCompass reasoning"].count("–") == 1  # b has one benchmark of six
    assert "Table 10" in output.getvalue()


def test_a_benchmark_scores_each_sample_and_means_over_them() -> None:
    def group(number: int, *values: float | None) -> Group:
        rollouts = [
            Rollout(
                Completion([1], [], "", "stop", 0), {"answer": Score(value, "scored" if value else "failed")}, value
            )
            for value in values
        ]
        return Group(Prompt(Problem(meta={"index": number, "qid": number // 2}), [], []), rollouts)

    groups = [group(0, 1.0, 1.0), group(1, 1.0, 0.5), group(2, 1.0, 1.0), group(3, 1.0, 1.0)]
    rewards = {"parts": {"answer": {"use": "rewards.benchmark:BenchmarkAnswer", "weight": 1.0}}}
    numbers = HeldOut([], RewardsConfig.model_validate(rewards), "dynamath").numbers(groups)
    assert numbers["accuracy"] == 0.75  # first samples: both questions right in all variants; second: one of two
    assert HeldOut([], RewardsConfig.model_validate(rewards), "docvqa").numbers(groups)["accuracy"] == 0.9375  # 7.5 / 8


def test_an_unknown_benchmark_is_refused_with_the_nearest_and_nothing_to_try_with_what_to_write(tmp_path: Path) -> None:
    def said(text: str) -> str:
        (tmp_path / "c.yaml").write_text(f"kind: eval\nmodels: {{a: {{path: org/model}}}}\n{text}")
        with pytest.raises(ConfigError) as error:
            validate(load(tmp_path / "c.yaml").config)
        return str(error.value)

    assert "'mathvista', which is no benchmark here. Did you mean mathvista_mini?" in said("benchmarks: [mathvista]")
    assert "is there twice" in said("benchmarks: [gsm8k, gsm8k]")
    assert "problems is missing, and so is benchmarks" in said("samples: 2")
    assert "rewards is missing, but data.problems need it" in said("data: {problems: {path: x.jsonl}}")


def test_a_file_that_is_not_there_comes_with_the_command_that_downloads_it(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"kind: eval\nmodels: {{a: {{path: org/model}}}}\nbenchmarks: [mmstar, gsm8k]\nbenchmarks_folder: {tmp_path}\n"
    )
    loaded = load(tmp_path / "c.yaml")
    with pytest.raises(ConfigError) as error:
        preflight(loaded.config, loaded.where)
    assert f"curl -L --create-dirs -o {tmp_path}/MMStar.tsv https://" in str(error.value)
    assert "gsm8k" not in str(error.value)  # on the hub
