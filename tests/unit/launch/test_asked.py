"""The words in which a model was asked when it was trained are found again, and others are said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.schema import SAIL_INSTRUCTION
from sailrl.launch.asked import asked_otherwise, instruction_of


def run(folder: Path, instruction: str, kind: str = "rlvr") -> Path:
    (folder / "checkpoints" / "episode-000001" / "model").mkdir(parents=True)
    (folder / "resolved.yaml").write_text(f"kind: {kind}\ndata: {{instruction: {instruction!r}}}\n")
    return folder / "checkpoints" / "episode-000001" / "model"


def config(model: Path | str, **sections: Any) -> EvaluateConfig:
    return EvaluateConfig.model_validate(
        {
            "kind": "eval",
            "models": {"a": {"path": str(model)}},
            "data": {"problems": {"path": "x.jsonl"}},
            "rewards": {"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
        }
        | sections
    )


def test_a_checkpoint_and_a_log_belong_to_the_run_above_them(tmp_path: Path) -> None:
    model = run(tmp_path / "run", "Think.")
    assert instruction_of(model) == (tmp_path / "run", "Think.")
    assert instruction_of(tmp_path / "run") == (tmp_path / "run", "Think.")
    assert instruction_of(tmp_path) is None


@pytest.mark.parametrize("text", ["kind: sft\ndata: {instruction: x}\n", "kind: rlvr\n", "[1]", "{", "\x00"])
def test_a_folder_that_does_not_say_it_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "resolved.yaml").write_text(text)
    assert instruction_of(tmp_path) is None


def test_a_model_that_is_asked_in_other_words_than_it_was_trained_with_is_said(tmp_path: Path) -> None:
    model = run(tmp_path / "run", "Think.")
    (line,) = asked_otherwise(config(model))
    assert "the model a was trained with data.instruction 'Think.'" in line
    assert list(asked_otherwise(config(model, instructions={"thinking": "Think."}))) == []
    assert list(asked_otherwise(config(run(tmp_path / "other", "")))) == []  # `direct` asks it so
    assert list(asked_otherwise(config("org/model"))) == []


def test_an_evaluation_asks_as_its_data_section_says(tmp_path: Path) -> None:
    assert config("m").instructions == {"thinking": SAIL_INSTRUCTION, "direct": ""}
    data = {"problems": {"path": "x.jsonl"}}
    assert config("m", data=data | {"instruction": "Think."}).instructions == {"thinking": "Think.", "direct": ""}
    assert config("m", data=data | {"instruction": ""}).instructions == {"direct": ""}
    assert config("m", instructions={"mine": "x"}).instructions == {"mine": "x"}
