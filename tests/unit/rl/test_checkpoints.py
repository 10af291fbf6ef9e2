"""Checkpoints of a run are complete or absent, and the oldest go first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sailrl.errors import CheckpointError
from sailrl.rl import checkpoints
from sailrl.rl.checkpoints import RunState


def _writes(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "weights").write_text(text)

    return write


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


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "checkpoints" / ".writing-episode-000007"
    left.mkdir(parents=True)
    checkpoints.save(tmp_path, RunState(episode=1), _writes("a"), keep=1)
    assert not left.exists()


def test_writing_the_same_episode_again_replaces_it(tmp_path: Path) -> None:
    """A run that ended early and was resumed with more data saves its episode once more."""
    for text in "ab":
        folder = checkpoints.save(tmp_path, RunState(episode=1), _writes(text), keep=1)
    assert (folder / "weights").read_text() == "b"
    assert _names(tmp_path) == ["episode-000001"]


@pytest.mark.parametrize("damage", [None, "", "{", "[]", '{"unknown": 1}', "\x00"])
def test_a_damaged_state_is_refused_in_words(tmp_path: Path, damage: str | None) -> None:
    folder = checkpoints.save(tmp_path, RunState(episode=1), _writes("a"), keep=1)
    file = folder / "run.json"
    assert json.loads(file.read_text())["state"]["episode"] == 1
    file.unlink() if damage is None else file.write_text(damage)
    with pytest.raises(CheckpointError, match=r"episode-000001 cannot be resumed: run\.json .*There is no older one"):
        checkpoints.load(folder)


def test_a_number_that_changed_in_the_state_is_noticed(tmp_path: Path) -> None:
    folder = checkpoints.save(tmp_path, RunState(episode=1, step=8), _writes("a"), keep=1)
    file = folder / "run.json"
    file.write_text(file.read_text().replace('"step": 8', '"step": 9'))
    with pytest.raises(CheckpointError, match=r"run\.json is damaged: its checksum"):
        checkpoints.load(folder)


def test_a_checkpoint_without_checksums_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "episode-000001"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"episode": 1, "step": 8}')
    with pytest.raises(CheckpointError, match=r"run\.json has no 'checksum', as before sailrl wrote checksums"):
        checkpoints.load(folder)


# --- what is read back is what was written --------------------------------------------------------------------------


def _two_checkpoints(run_dir: Path) -> Path:
    """The second of two, with a file in a folder below."""

    def write(folder: Path) -> None:
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(bytes(range(100)))
        (folder / "model" / "config").write_text("{}")
        (folder / "optimizer").write_bytes(b"moments")

    for episode in (1, 2):
        folder = checkpoints.save(run_dir, RunState(episode=episode), write, keep=2)
    return folder


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: _flip(folder / "model" / "weights"), r"model/weights is damaged: its checksum"),
        (lambda folder: _flip(folder / "optimizer"), r"optimizer is damaged"),
        (lambda folder: (folder / "model" / "weights").write_bytes(bytes(60)), r"model/weights has 60 bytes, 100 were"),
        (lambda folder: (folder / "model" / "weights").write_bytes(bytes(101)), r"model/weights has 101 bytes, 100"),
        (lambda folder: (folder / "optimizer").unlink(), r"optimizer is missing"),
        (lambda folder: shutil.rmtree(folder / "model"), r"model/config is missing, and 1 more"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_named_with_the_way_on(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    folder = _two_checkpoints(tmp_path)
    checkpoints.verify(folder)
    damage(folder)
    way_on = r"Remove .*episode-000002: the same command then goes on from .*episode-000001\."
    with pytest.raises(CheckpointError, match=rf"episode-000002 cannot be resumed: {said}.* {way_on}"):
        checkpoints.verify(folder)
    shutil.rmtree(folder)
    older = checkpoints.latest(tmp_path)
    assert older is not None
    checkpoints.verify(older)


def test_a_file_that_somebody_put_there_does_not_matter(tmp_path: Path) -> None:
    folder = _two_checkpoints(tmp_path)
    (folder / "notes.txt").write_text("the good one")
    checkpoints.verify(folder)


# --- what is no checkpoint ------------------------------------------------------------------------------------------


def test_only_folders_named_after_an_episode_count(tmp_path: Path) -> None:
    folder = _two_checkpoints(tmp_path)
    parent = folder.parent
    for name in ("episode-best", "episode-000002 copy", "episode-000002.bak", "episode-", "episode-9e9", "my-episode"):
        shutil.copytree(folder, parent / name)
    (parent / "episode-000003.tar.gz").write_text("")
    (parent / "episode-000009").write_text("a file")
    before = set(_names(tmp_path))
    assert checkpoints.latest(tmp_path) == folder
    checkpoints.save(tmp_path, RunState(episode=3), _writes("c"), keep=1)
    # Of all these, only the two checkpoints went.
    assert set(_names(tmp_path)) == before - {"episode-000001", "episode-000002"} | {"episode-000003"}


def test_a_copy_under_the_number_of_another_episode_is_refused(tmp_path: Path) -> None:
    folder = _two_checkpoints(tmp_path)
    copy = folder.with_name("episode-000099")
    shutil.copytree(folder, copy)
    with pytest.raises(CheckpointError, match=r"episode-000099 holds the checkpoint of episode 2.*episode-000002"):
        checkpoints.load(copy)


def test_checkpoints_are_ordered_by_number_however_long(tmp_path: Path) -> None:
    for episode in (999_999, 1_000_000):
        checkpoints.save(tmp_path, RunState(episode=episode), _writes("a"), keep=1)
    assert _names(tmp_path) == ["episode-1000000"]  # as text it would come before episode-999999
