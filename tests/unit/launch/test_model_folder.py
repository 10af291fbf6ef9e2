"""A model that a run builds is built once, by what the configuration says, and is what was written when it is used."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sailrl.config.schema import ModelConfig
from sailrl.errors import CheckpointError
from sailrl.launch.model_folder import model_folder
from sailrl.report.progress import PlainProgress

CODE = """
def build(out, text="a"):
    (out / "weights").write_text(text)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(CODE)
    return f"{tmp_path / 'mine.py'}:build"


def built(plugin: str, folder: Path, text: str = "a", *, resumed: bool = False) -> tuple[str, str]:
    """The weights in the folder that a job gets, and what was shown."""
    console = Console(width=300, record=True, file=io.StringIO())
    model = ModelConfig.model_validate({"build": {"use": plugin, "args": {"text": text}}})
    path = model_folder(model, folder, PlainProgress("run", 1, console=console), resumed=resumed)
    return (Path(path) / "weights").read_text(), console.export_text()


def test_it_is_built_once(plugin: str, tmp_path: Path) -> None:
    assert built(plugin, tmp_path)[0] == "a"
    text, shown = built(plugin, tmp_path)
    assert (text, shown) == ("a", "")


def test_other_arguments_build_it_again_and_that_is_said(plugin: str, tmp_path: Path) -> None:
    built(plugin, tmp_path)
    text, shown = built(plugin, tmp_path, "b")
    assert text == "b"
    assert "model was made by other settings and is made again (args.text: a -> b)" in shown


def test_other_code_builds_it_again(plugin: str, tmp_path: Path) -> None:
    built(plugin, tmp_path)
    (tmp_path / "mine.py").write_text(CODE + "\n")
    assert "is made again (code: " in built(plugin, tmp_path)[1]


def test_a_run_that_goes_on_keeps_what_it_began_with(plugin: str, tmp_path: Path) -> None:
    built(plugin, tmp_path)
    assert built(plugin, tmp_path, "b", resumed=True) == ("a", "")


@pytest.mark.parametrize("resumed", [False, True])
def test_a_damaged_file_is_not_used(plugin: str, tmp_path: Path, resumed: bool) -> None:
    built(plugin, tmp_path)
    (tmp_path / "model" / "weights").write_text("x")
    with pytest.raises(CheckpointError, match=r"model/weights is damaged: .* Remove .*model, and the next start"):
        built(plugin, tmp_path, resumed=resumed)


def test_a_folder_that_something_else_made_is_not_removed(plugin: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("trained for a week")
    with pytest.raises(CheckpointError, match="model exists, but this job makes that folder itself"):
        built(plugin, tmp_path)
    assert (tmp_path / "model" / "weights").read_text() == "trained for a week"
