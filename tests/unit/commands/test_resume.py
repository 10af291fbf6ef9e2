"""The same command again, as it is typed: what holds, what is said and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from sailrl.commands.run import ready
from sailrl.config.load import load
from sailrl.demo import tiny_text
from sailrl.errors import CheckpointError
from sailrl.launch.run_folder import RESOLVED
from sailrl.launch.starts import STARTS
from sailrl.sft.start import MODEL


class Stage:
    """A supervised stage that was stopped at step 4 of 6, with a checkpoint of steps 2 and 4."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.file, self.rows = folder / "run", folder / "stage.yaml", folder / "rows.jsonl"
        self.write_rows(*range(8))
        self.written = {
            "kind": "sft",
            "run": {"dir": str(self.folder)},
            "model": {"path": str(model), "dtype": "float32"},
            "data": {"train": {"path": str(self.rows)}, "instruction": ""},
            "training": {"rows_per_step": 2, "steps": 4, "schedule": "constant"},
        }
        self.file.write_text(yaml.safe_dump(self.written))
        self.run("checkpoint.every_steps=2", "checkpoint.keep=2", "training.learning_rate=1e-3")
        shutil.rmtree(self.folder / MODEL)

    def write_rows(self, *numbers: int) -> None:
        rows = [{"prompt": f"{n}+{n}=?", "answer": str(2 * n), "response": f"\\boxed{{{2 * n}}}"} for n in numbers]
        self.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(self, *overrides: str, allow_changes: bool = False) -> None:
        ready(self.file, overrides, allow_changes=allow_changes).run()

    def refusal(self, *overrides: str, allow_changes: bool = False) -> str:
        before = (self.folder / RESOLVED).read_text(), (self.folder / STARTS).read_text()
        with pytest.raises(CheckpointError) as refused:
            self.run(*overrides, allow_changes=allow_changes)
        assert ((self.folder / RESOLVED).read_text(), (self.folder / STARTS).read_text()) == before
        return str(refused.value)

    def checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"checkpoint-{step}"


@pytest.fixture
def stage(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Stage:
    stage = Stage(tmp_path, tiny_folder)
    capsys.readouterr()
    return stage


def test_a_resume_goes_on_as_the_run_was_begun_and_says_what_is_new(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.run("training.steps=6")
    shown = capsys.readouterr()
    assert (
        "kept from an earlier start: checkpoint.every_steps=2 checkpoint.keep=2 training.learning_rate=1e-3"
    ) in shown.out
    (change,) = [line for line in shown.err.splitlines() if "changed since" in line]
    assert change.endswith("changed since the last start: training.steps: 4 -> 6")
    starts = [json.loads(line) for line in (stage.folder / STARTS).read_text().splitlines()]
    assert [(start["step"], start["settings"]["training"]["steps"]) for start in starts] == [(0, 4), (4, 6)]
    assert load(stage.folder / RESOLVED).config.model_dump(mode="json") == starts[-1]["settings"]
    assert len((stage.folder / "metrics.jsonl").read_text().splitlines()) == 6


def test_an_edit_of_the_file_counts(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.file.write_text(yaml.safe_dump(stage.written | {"checkpoint": {"every_steps": 1}}))
    stage.run("training.steps=5")
    assert "kept from an earlier start: checkpoint.keep=2 training.learning_rate=1e-3\n" in capsys.readouterr().out
    assert stage.checkpoint(5).is_dir()


def test_another_model_or_other_rows_are_refused_whatever_is_allowed(stage: Stage, tmp_path: Path) -> None:
    tiny_text.build(tmp_path / "other", hidden_size=32, layers=1, seed=9)
    message = stage.refusal(f"model.path={tmp_path / 'other'}", allow_changes=True)
    assert "model.content cannot change" in message
    assert "model.lora cannot change" in stage.refusal("model.lora={rank: 4}", allow_changes=True)
    stage.write_rows(*range(7), 9)
    assert "data.train.content: 8 rows, " in stage.refusal(allow_changes=True)


def test_another_precision_needs_to_be_allowed(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert "model.dtype: float32 -> bfloat16" in stage.refusal("model.dtype=bfloat16", "training.steps=6")
    stage.run("model.dtype=bfloat16", "training.steps=6", allow_changes=True)
    assert "changed since the last start: model.dtype: float32 -> bfloat16" in capsys.readouterr().err


def test_a_finished_stage_is_not_taken_for_one_of_another_model(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.run()
    stage.run("training.steps=9")
    shown = capsys.readouterr().out
    assert "is finished" in shown
    assert "not used, since nothing is trained:\n  training.steps: 4 -> 9" in shown
    tiny_text.build(tmp_path / "other", hidden_size=32, layers=1, seed=9)
    message = stage.refusal(f"model.path={tmp_path / 'other'}")
    assert "is finished with other settings:\n  model.path: " in message


@pytest.mark.parametrize("file", ["model/model.safetensors", "learner.json"])
def test_a_damaged_checkpoint_is_named_and_the_older_one_goes_on(stage: Stage, file: str) -> None:
    damaged = stage.checkpoint(4) / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    message = stage.refusal("training.steps=6")
    assert f"checkpoint-4 cannot be resumed: {file} is damaged" in message
    assert f"Remove {stage.checkpoint(4)}: the same command then goes on from {stage.checkpoint(2)}." in message
    shutil.rmtree(stage.checkpoint(4))
    stage.run("training.steps=6")
    assert (stage.folder / MODEL).is_dir()


def test_only_folders_named_after_a_step_are_checkpoints(stage: Stage) -> None:
    parent = stage.checkpoint(4).parent
    shutil.copytree(stage.checkpoint(2), parent / "checkpoint-best")
    (parent / "checkpoint-notes").mkdir()
    stage.run("training.steps=6")
    assert (parent / "checkpoint-best").is_dir()
    assert (parent / "checkpoint-notes").is_dir()
