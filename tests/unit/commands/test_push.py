"""``sailrl push``: what lies in the folder, and what the card says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sailrl.commands.push import push_job
from sailrl.config.load import resolved_yaml
from sailrl.errors import ConfigError, DataError
from sailrl.launch.run_folder import RESOLVED
from sailrl.rl import checkpoints
from tests.fakes.local_run import make_config
from tests.unit.report.conftest import write_run


def run_folder(folder: Path, *, adapter: bool = False, **sections: Any) -> Path:
    """A run with a checkpoint at each of two evaluations, of which the last one, at step 2, is the best."""
    run = write_run(folder)
    (run / RESOLVED).write_text(resolved_yaml(make_config(**sections)))
    for episode, step in ((1, 0), (2, 2)):

        def write(out: Path, step: int = step) -> None:
            (out / "model").mkdir()
            (out / "model" / "config.json").write_text(f'{{"step": {step}}}')
            if adapter:
                (out / "adapter").mkdir()
                (out / "adapter" / "adapter_config.json").write_text("{}")

        checkpoints.save(run, checkpoints.RunState(episode=episode, step=step), write, keep=2)
    return run


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), text


def test_a_folder_has_the_model_the_recipe_the_numbers_and_a_card(tmp_path: Path) -> None:
    run, out = run_folder(tmp_path / "mine", adapter=True, model={"path": "org/base"}), tmp_path / "out"
    assert push_job(run, None, out) == str(out)
    names = {path.name for path in out.iterdir()}
    assert names == {"config.json", "adapter", "resolved.yaml", "metrics.jsonl", "curve.png", "README.md"}
    assert (out / "config.json").read_text() == '{"step": 2}'
    head, text = card_of(out)
    assert head["base_model"] == "org/base"
    assert "held-out accuracy" in text
    assert "| 2 | 50.0% | 30.0 |" in text  # of the evaluations
    assert "| rewards | 1 × `even` |" in text
    assert f"vllm serve {out}" in text
    assert "`adapter/` has the LoRA adapter alone" in text


def test_the_best_checkpoint_is_taken_when_asked_for(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "mine")
    with (run / "metrics.jsonl").open("a") as file:  # step 0 was better after all
        file.write('{"step": 0, "eval/accuracy": 0.9, "eval/response_tokens": 3.0}\n')
    push_job(run, None, tmp_path / "out", best=True)
    assert (tmp_path / "out" / "config.json").read_text() == '{"step": 0}'


def test_a_card_in_the_checkpoint_is_not_written_over(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "mine")
    own = run / "checkpoints" / "episode-000002" / "model" / "README.md"
    own.write_text("the base model's")
    push_job(run, None, tmp_path / "out")
    assert own.read_text() == "the base model's"
    assert "Trained with sailrl" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_keeps_paths_of_this_machine_to_itself(tmp_path: Path) -> None:
    (tmp_path / "private" / "base").mkdir(parents=True)
    run = run_folder(tmp_path / "mine", model={"path": str(tmp_path / "private" / "base")})
    push_job(run, None, tmp_path / "out")
    head, text = card_of(tmp_path / "out")
    assert "base_model" not in head
    assert "from `base`" in text
    assert "private" not in text


def test_what_cannot_be_pushed_is_said(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "mine")
    with pytest.raises(ConfigError, match="one place"):
        push_job(run, None, None)
    with pytest.raises(ConfigError, match="one place"):
        push_job(run, "user/name", tmp_path / "out")
    with pytest.raises(DataError, match="is there already"):
        push_job(run, None, run)
    with pytest.raises(DataError, match=r"is no run folder: it has no resolved\.yaml"):
        push_job(tmp_path, None, tmp_path / "out")
    write_run(tmp_path / "young")
    (tmp_path / "young" / RESOLVED).write_text(resolved_yaml(make_config()))
    with pytest.raises(DataError, match="no model yet"):
        push_job(tmp_path / "young", None, tmp_path / "out")
    with pytest.raises(DataError, match="no evaluated checkpoint"):
        push_job(tmp_path / "young", None, tmp_path / "out", best=True)
    assert not (tmp_path / "out").exists()


def test_a_hub_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "mine")
    before = set(run.iterdir())
    with pytest.raises(DataError, match=r"the hub did not take not/a/name .* --to FOLDER writes the same"):
        push_job(run, "not/a/name", None)
    assert set(run.iterdir()) == before  # nothing is left behind
