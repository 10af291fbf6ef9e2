"""A recipe: stages find what earlier ones made, finished ones are not run again, and nothing starts on a typo."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from rewards.answer import RuleOrJudge
from rewards.thinking import Thinking
from sailrl.commands.check import check_job
from sailrl.commands.recipe import DONE, start_recipe
from sailrl.commands.result import output_of
from sailrl.config.checks import preflight_problems, validate
from sailrl.config.load import load
from sailrl.config.recipe import RecipeConfig
from sailrl.config.references import references, resolved
from sailrl.config.yaml_text import Where
from sailrl.demo.judge import serve
from sailrl.errors import ConfigError, DataError
from sailrl.launch.fingerprint import named_contents
from sailrl.types import Problem

ROWS = {"generate": {"use": "sailrl.demo.additions:rows", "args": {"count": 8, "seed": 1}}}


def _recipe(model: str, **second: Any) -> RecipeConfig:
    """Two supervised stages, the second on the model of the first."""
    first = {
        "kind": "sft",
        "model": {"path": model, "dtype": "float32"},
        "data": {"train": ROWS, "instruction": ""},
        "training": {"rows_per_step": 4, "learning_rate": 1e-2},
    }
    then = {**first, "model": {"path": "${first.model}", "dtype": "float32"}} | second
    return RecipeConfig.model_validate({"kind": "recipe", "stages": {"first": first, "second": then}})


def test_a_stage_starts_from_what_an_earlier_one_made_and_is_not_run_twice(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _recipe(str(tiny_folder))
    validate(config)
    start_recipe(config, tmp_path)
    resolved_copy = (tmp_path / "second" / "resolved.yaml").read_text()
    assert f"path: {tmp_path / 'first' / 'model'}" in resolved_copy
    before = load_file(tmp_path / "second" / "model" / "model.safetensors")
    assert "[stage 2/2] second (sft): done" in capsys.readouterr().out

    start_recipe(config, tmp_path)
    assert capsys.readouterr().out.count("finished before") == 2

    # As if killed within the second stage: the first is left alone, the second gives the same model again.
    shutil.rmtree(tmp_path / "second")
    start_recipe(config, tmp_path)
    printed = capsys.readouterr().out
    assert "first (sft): finished before" in printed
    assert "second (sft): done" in printed
    after = load_file(tmp_path / "second" / "model" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_finished_stage_of_another_configuration_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    done = tmp_path / "first" / DONE
    config = _recipe(str(tiny_folder))
    done.parent.mkdir()
    before = config.stages["first"].model_dump(mode="json", exclude_defaults=True)
    done.write_text(json.dumps({"took_s": 1, "config": before | {"data": {}}, "contents": {}}))
    with pytest.raises(ConfigError, match=r"first was finished with another configuration \(different: data\)"):
        start_recipe(config, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"took_s": 1, "config": {}}'])
def test_a_damaged_note_of_a_finished_stage_is_named(tiny_folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / DONE).write_text(text)
    with pytest.raises(ConfigError, match=r"done\.json does not say how the stage was finished"):
        start_recipe(_recipe(str(tiny_folder)), tmp_path)


def test_a_finished_stage_whose_data_model_or_code_changed_since_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    rows, code = tmp_path / "rows.jsonl", tmp_path / "code.py"
    model = Path(shutil.copytree(tiny_folder, tmp_path / "start"))
    rows.write_text('{"prompt": "1+1=?", "response": "2"}\n')
    code.write_text("def rows():\n    return []\n")
    stage = {
        "kind": "sft",
        "model": {"path": str(model)},
        "data": {"train": {"path": str(rows)}, "balance": {"use": f"{code}:rows"}},
    }
    config = RecipeConfig.model_validate({"kind": "recipe", "stages": {"first": stage}})
    settings = config.stages["first"].model_dump(mode="json")
    (tmp_path / "run" / "first").mkdir(parents=True)
    done = {"took_s": 1, "config": config.stages["first"].model_dump(mode="json", exclude_defaults=True)}
    (tmp_path / "run" / "first" / DONE).write_text(json.dumps({**done, "contents": named_contents(settings)}))
    start_recipe(config, tmp_path / "run")  # nothing has changed, and nothing is run
    for file, named in ((rows, str(rows)), (model / "config.json", str(model)), (code, f"{code}:rows")):
        before = file.read_bytes()
        file.write_bytes(before + b" ")
        with pytest.raises(ConfigError, match=f"different: what {re.escape(named)} holds"):
            start_recipe(config, tmp_path / "run")
        file.write_bytes(before)
    rows.unlink()
    code.unlink()
    start_recipe(config, tmp_path / "run")  # what is gone cannot be used again


def _complaint(tmp_path: Path, *overrides: str) -> str:
    file = tmp_path / "recipe.yaml"
    file.write_text(_recipe("/models/none").model_dump_json())

    def check() -> None:
        loaded = load(file, overrides)
        validate(loaded.config, loaded.where)

    with pytest.raises(ConfigError) as caught:
        check()
    return str(caught.value)


def test_a_reference_must_lead_to_an_output_of_an_earlier_stage(tmp_path: Path) -> None:
    assert "there is no stage 'frist' before it. Did you mean 'first'?" in _complaint(
        tmp_path, 'stages.second.model.path="${frist.model}"'
    )
    assert "refers to ${first.weights}, but what 'first' gives is: model." in _complaint(
        tmp_path, 'stages.second.model.path="${first.weights}"'
    )
    assert "that stage does not come before this one" in _complaint(
        tmp_path, 'stages.first.model.path="${second.model}"'
    )
    assert "stages.first.run.dir is 'x', but the stages of a recipe lie in its own folder" in _complaint(
        tmp_path, "stages.first.run.dir=x"
    )


def test_a_stage_is_checked_like_any_other_configuration(tmp_path: Path) -> None:
    assert "stages.first.training.epoch" in _complaint(tmp_path, "stages.first.training.epoch=2")
    assert "stages.first.kind" in _complaint(tmp_path, "stages.first.kind=sfd")


def test_a_check_lists_the_stages_and_starts_none(tiny_folder: Path, tmp_path: Path) -> None:
    file, output = tmp_path / "recipe.yaml", io.StringIO()
    file.write_text(_recipe(str(tiny_folder)).model_dump_json())
    check_job(file, [f"run.dir={tmp_path / 'run'}"], Console(file=output, width=100))
    assert "1. first (sft)" in output.getvalue()
    assert "2. second (sft)" in output.getvalue()
    assert not (tmp_path / "run").exists()


def test_only_what_is_known_before_the_start_is_looked_for(tmp_path: Path) -> None:
    problems = preflight_problems(_recipe("/models/none"), Where())
    assert len(problems) == 1
    assert "stages.first.model.path" in problems[0]


def test_a_job_of_its_own_refers_to_nothing(tmp_path: Path) -> None:
    file = tmp_path / "sft.yaml"
    file.write_text(json.dumps(_recipe("${longcot.model}").stages["first"].model_dump(mode="json")))
    with pytest.raises(ConfigError, match=r"model.path refers to \$\{longcot.model\}, but only the stages"):
        load(file)


def test_references_are_found_and_replaced_wherever_they_stand() -> None:
    data = {"a": ["x", "${s.model}/config.json"], "b": {"c": "${ j.url }"}, "n": 3}
    assert list(references(data)) == [(("a", 1), "s", "model"), (("b", "c"), "j", "url")]
    assert resolved(data, lambda stage, output: f"<{stage} {output}>") == {
        "a": ["x", "<s model>/config.json"],
        "b": {"c": "<j url>"},
        "n": 3,
    }


def test_the_model_of_an_rl_stage_is_its_last_checkpoint(tmp_path: Path) -> None:
    stage = load(Path(__file__).parents[3] / "configs" / "rlvr_tiny_text.yaml").config
    with pytest.raises(DataError, match="which was removed"):
        output_of(stage, tmp_path, "model")
    for episode in (5, 10):
        (tmp_path / "checkpoints" / f"episode-{episode:06d}" / "model").mkdir(parents=True)
    assert output_of(stage, tmp_path, "model") == str(tmp_path / "checkpoints" / "episode-000010" / "model")


SOUND = "<think>\n7+8=15 4+2+1=7\n</think>\n\n\\boxed{75}"


@pytest.mark.parametrize(
    ("response", "answer", "thinking"),
    [
        (SOUND, 1.0, 1.0),
        (SOUND.replace("=15", "=16"), 1.0, 1 / 3),  # a wrong sum; the answer no longer follows from it
        (SOUND.replace("7+8=15", "6+9=15"), 1.0, 2 / 3),  # digits that are not in the question
        (SOUND.replace("{75}", "{76}"), 0.0, 2 / 3),  # the answer does not follow
        ("\\boxed{75}", 1.0, 0.0),  # no thinking
    ],
)
def test_the_demos_judge_knows_sound_from_unsound(response: str, answer: float, thinking: float) -> None:
    problem = Problem(prompt="47+28=?", answer="75", task="open")

    async def ask(url: str) -> tuple[float | None, float | None]:
        judge: dict[str, Any] = {"base_url": url, "model": "rules"}
        rewards: list[Any] = [RuleOrJudge(**judge), Thinking(**judge, empty_value=0.0)]
        scores = [await reward(response, problem) for reward in rewards]
        for reward in rewards:
            await reward.aclose()
        return scores[0].value, scores[1].value

    with serve() as url:
        assert asyncio.run(ask(url)) == (answer, pytest.approx(thinking))
