"""Rollout workers come and go while a run goes on, where the run allows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sailrl.config.load import resolved_yaml
from sailrl.errors import ConfigError
from sailrl.launch.run_folder import claimed
from sailrl.rl import checkpoints
from sailrl.rl.checkpoints import RunState
from sailrl.rl.workers import wanted_workers, workers_job
from tests.fakes.local_run import LocalRun, make_config


def _folder(path: Path, **sections: Any) -> Path:
    config = make_config(**{"run": {"deterministic": False}, **sections})
    (path / "resolved.yaml").write_text(resolved_yaml(config))
    return path


def test_what_was_asked_for_is_what_the_loop_reads(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    assert wanted_workers(folder) is None
    for count in (3, 1):
        workers_job(folder, count)
        assert wanted_workers(folder) == count


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"run": {"deterministic": True}}, "run.deterministic is true"),
        ({"sync": {"method": "nccl"}}, "sync.method is nccl"),
    ],
)
def test_a_run_whose_workers_cannot_change_says_why(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        workers_job(_folder(tmp_path, **sections), 2)
    assert wanted_workers(tmp_path) is None


def test_a_finished_run_says_so_and_one_that_is_raised_goes_on(tmp_path: Path) -> None:
    folder = _folder(tmp_path)  # of 3 episodes
    checkpoints.save(folder, RunState(episode=3), lambda out: None, keep=1)
    with pytest.raises(ConfigError, match=r"is finished: it has done 3 of 3 episodes.*Raise batch\.episodes"):
        workers_job(folder, 2)
    assert wanted_workers(folder) is None
    workers_job(_folder(tmp_path, batch={"episodes": 4}), 2)
    assert wanted_workers(folder) == 2


def test_a_run_that_goes_on_now_is_told_from_one_that_will_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _folder(tmp_path)
    workers_job(folder, 2)
    assert "is not running now; when it is resumed, it goes on with 2 rollout workers" in capsys.readouterr().out
    with claimed(folder):
        workers_job(folder, 1)
    assert "goes on with 1 rollout worker from its next episode on" in capsys.readouterr().out


def test_no_run_and_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run folder"):
        workers_job(tmp_path, 2)
    with pytest.raises(ConfigError, match="1 at least"):
        workers_job(_folder(tmp_path), 0)


@pytest.mark.parametrize("text", ["0\n", "-1\n", "many\n", ""])
def test_a_number_that_somebody_else_wrote_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "workers").write_text(text)
    assert wanted_workers(tmp_path) is None


def test_the_loop_asks_its_pool_for_them_before_every_episode(tiny_folder: Path, tmp_path: Path) -> None:
    run = LocalRun(make_config(batch={"episodes": 2}), tmp_path, tiny_folder)
    (tmp_path / "workers").write_text("2\n")
    asked: list[int] = []
    run.pool.resize = asked.append  # type: ignore[method-assign, assignment]
    run.train()
    assert asked == [2, 2, 2]  # two episodes, and once more at the end
