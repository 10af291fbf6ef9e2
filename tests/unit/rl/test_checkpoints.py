"""Checkpoints of a run are complete or absent, and the oldest go first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sailrl.errors import CheckpointError
from sailrl.rl import checkpoints
from sailrl.rl.checkpoints import RunState


def _writes(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "weights").write_text(text) and None


def _fails(error: BaseException) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise error

    return write


def _names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def test_a_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    state = RunState(episode=4, step=8, version=4, collector={"backlog": [1, 2]}, metrics={"bytes": 7, "step": 8})
    folder = checkpoints.save(tmp_path, state, _writes("a"), keep=2)
    assert folder == checkpoints.latest(tmp_path) == tmp_path / "checkpoints" / "episode-000004"
    assert checkpoints.load(folder) == state
    assert (folder / "weights").read_text() == "a"


def test_a_run_without_checkpoints_has_no_latest(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path) is None


def test_the_newest_is_by_number_not_by_age(tmp_path: Path) -> None:
    for episode in (10, 9):
        checkpoints.save(tmp_path, RunState(episode=episode), _writes("a"), keep=5)
    latest = checkpoints.latest(tmp_path)
    assert latest is not None
    assert latest.name == "episode-000010"


def test_the_oldest_beyond_keep_are_removed(tmp_path: Path) -> None:
    for episode in range(1, 6):
        checkpoints.save(tmp_path, RunState(episode=episode), _writes("a"), keep=2)
    assert _names(tmp_path) == ["episode-000004", "episode-000005"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("the learner died")])
def test_a_failure_while_writing_leaves_the_checkpoint_before(tmp_path: Path, error: BaseException) -> None:
    before = checkpoints.save(tmp_path, RunState(episode=1), _writes("a"), keep=1)
    with pytest.raises(type(error)):
        checkpoints.save(tmp_path, RunState(episode=2), _fails(error), keep=1)
    assert checkpoints.latest(tmp_path) == before
    assert (before / "weights").read_text() == "a"
    after = checkpoints.save(tmp_path, RunState(episode=2), _writes("b"), keep=1)
    assert _names(tmp_path) == [after.name]  # the half-written one is gone, too


def test_a_full_disk_is_an_error_for_people_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    before = checkpoints.save(tmp_path, RunState(episode=1), _writes("a"), keep=1)
    full = OSError(28, "No space left on device")
    with pytest.raises(CheckpointError, match=r"episode-000002: .*No space left.*episode-000001, is whole\. Make room"):
        checkpoints.save(tmp_path, RunState(episode=2), _fails(full), keep=1)
    assert checkpoints.latest(tmp_path) == before
    assert _names(tmp_path) == [before.name]  # what was half written does not go on filling the disk


def test_writing_the_same_episode_again_replaces_it(tmp_path: Path) -> None:
    """A run that ended early and was resumed with more data saves its episode once more."""
    for text in "ab":
        folder = checkpoints.save(tmp_path, RunState(episode=1), _writes(text), keep=1)
    assert (folder / "weights").read_text() == "b"
    assert _names(tmp_path) == ["episode-000001"]


@pytest.mark.parametrize("damage", [None, "", "{", "[]", '{"unknown": 1}'])
def test_a_damaged_state_is_refused_in_words(tmp_path: Path, damage: str | None) -> None:
    folder = checkpoints.save(tmp_path, RunState(episode=1), _writes("a"), keep=1)
    file = folder / "run.json"
    assert json.loads(file.read_text())["episode"] == 1
    file.unlink() if damage is None else file.write_text(damage)
    with pytest.raises(CheckpointError, match=r"episode-000001 cannot be resumed: .*Remove it"):
        checkpoints.load(folder)
