"""``sailrl init`` writes configurations that start."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sailrl.cli import app
from sailrl.commands.check import check_job
from sailrl.commands.init import TEMPLATES, init_job
from sailrl.config.checks import preflight_problems, validate
from sailrl.config.kinds import KINDS
from sailrl.config.load import load
from sailrl.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_starts_from_a_file_that_keeps_the_rules(kind: str, folder: Path) -> None:
    done = CliRunner().invoke(app, ["init", kind])
    assert done.exit_code == 0
    assert f"sailrl run {kind}.yaml" in done.stdout
    loaded = load(folder / f"{kind}.yaml")
    assert loaded.config.kind == kind
    validate(loaded.config, loaded.where)


@pytest.mark.parametrize("kind", ["rlvr", "sft", "recipe"])
def test_what_needs_no_earlier_job_passes_the_check_as_it_stands(kind: str, folder: Path) -> None:
    output = io.StringIO()
    check_job(init_job(kind, None), [], Console(file=output, width=200))
    assert output.getvalue().rstrip().endswith("ok")


@pytest.mark.parametrize(
    ("kind", "earlier"),
    [
        ("filter", ["runs/sft/model"]),
        ("fuse", ["runs/rlvr/rollouts.jsonl"]),
        ("eval", ["runs/rlvr/warm_start", "runs/rlvr/checkpoints/episode-000020/model"]),
    ],
)
def test_the_others_lack_only_what_the_job_named_in_their_first_lines_makes(
    kind: str, earlier: list[str], folder: Path
) -> None:
    loaded = load(init_job(kind, None))
    problems = preflight_problems(loaded.config, loaded.where)
    assert len(problems) == len(earlier)
    assert all(path in problem for path, problem in zip(earlier, problems, strict=True))


def test_the_last_checkpoint_of_the_rl_template_is_the_one_that_the_eval_template_names() -> None:
    episodes = load(TEMPLATES / "rlvr.yaml").config.batch.episodes  # type: ignore[attr-defined]
    assert f"episode-{episodes:06}/model" in (TEMPLATES / "eval.yaml").read_text()


def test_nothing_is_overwritten(folder: Path) -> None:
    (folder / "mine.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"mine.yaml is there already.*sailrl init sft mine_2.yaml"):
        init_job("sft", Path("mine.yaml"))
    assert (folder / "mine.yaml").read_text() == "mine"


def test_an_unknown_kind_is_answered_with_the_nearest(folder: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean `kind: sft`"):
        init_job("sftt", None)
    assert not list(folder.iterdir())
