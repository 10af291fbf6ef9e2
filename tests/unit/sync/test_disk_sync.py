"""Weights through a folder: one previous version is kept for comparison, and nothing is left behind."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sailrl.errors import WeightSyncError
from sailrl.sync.disk import DiskSync, refuse_too_little_room


class Writer:
    """A learner that writes one file."""

    def __init__(self, error: OSError | None = None) -> None:
        self._error = error

    def export(self, folder: str) -> None:
        if self._error is not None:
            raise self._error
        Path(folder).mkdir()
        (Path(folder) / "model.safetensors").write_text("weights")


class Reader:
    """Engines that note what they were given."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, int, float]] = []

    async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
        assert (Path(folder) / "model.safetensors").read_text() == "weights"
        self.loaded.append((folder, version, timeout_s))


def _published(count: int, writer: Any = None) -> tuple[DiskSync, Reader]:
    reader = Reader()
    sync = DiskSync(writer or Writer(), reader, timeout_s=5.0)
    for version in range(count):
        asyncio.run(sync.publish(version))
    return sync, reader


def test_engines_get_the_folder_its_version_and_the_deadline() -> None:
    sync, reader = _published(2)
    assert reader.loaded == [(str(sync.previous), 0, 5.0), (str(sync.current), 1, 5.0)]
    sync.close()


def test_only_the_current_and_the_previous_version_are_kept() -> None:
    sync, reader = _published(5)
    assert sync.current is not None
    assert sync.previous is not None
    assert [path.exists() for path in map(Path, (folder for folder, _, _ in reader.loaded))] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert (sync.previous.name, sync.current.name) == ("version-3", "version-4")
    sync.close()


def test_there_are_never_more_than_two_versions() -> None:
    """The room that is asked for before the start is that of two."""
    seen: list[int] = []

    class Counting(Writer):
        def export(self, folder: str) -> None:
            super().export(folder)
            seen.append(len(list(Path(folder).parent.glob("version-*"))))

    sync, _ = _published(4, Counting())
    assert seen == [1, 2, 2, 2]
    sync.close()


def test_too_little_room_is_refused_with_both_numbers(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    refuse_too_little_room(str(tmp_path / "new"), free // 2)
    with pytest.raises(
        WeightSyncError, match=rf"new has [\d.]+ GiB free, and 2 versions .* take {2 * free / 2**30:.2f} GiB"
    ):
        refuse_too_little_room(str(tmp_path / "new"), 2 * free)


def test_closing_leaves_nothing_in_shared_memory() -> None:
    sync, _ = _published(2)
    assert sync.current is not None
    root = sync.current.parent
    assert root.is_dir()
    sync.close()
    assert not root.exists()


_RUN = """
import asyncio, sys, time
from tests.unit.sync.test_disk_sync import _published
print(_published(1)[0].current, flush=True)
time.sleep(60)
"""


def test_what_a_killed_run_left_in_shared_memory_goes_away_with_the_next_run() -> None:
    """SIGKILL runs no clean-up, and weights of a large model would fill the memory of the machine."""
    with subprocess.Popen([sys.executable, "-c", _RUN], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        left = Path(run.stdout.readline().strip())
        mine, _ = _published(1)
        assert left.is_dir()  # a run that is alive keeps its weights
        run.kill()
    other, _ = _published(1)
    assert not left.parent.exists()
    assert mine.current is not None
    assert mine.current.is_dir()
    for sync in (mine, other):
        sync.close()


def test_a_full_disk_is_an_error_for_people() -> None:
    sync, _ = _published(0, Writer(OSError(28, "No space left on device")))
    with pytest.raises(WeightSyncError, match=r"No space left on device.*Free some space"):
        asyncio.run(sync.publish(0))
    sync.close()


def test_versions_are_written_where_the_configuration_says(tmp_path: Path) -> None:
    sync = DiskSync(Writer(), Reader(), timeout_s=5.0, folder=str(tmp_path / "weights"))
    asyncio.run(sync.publish(0))
    assert sync.current is not None
    assert sync.current.is_relative_to(tmp_path / "weights")
    sync.close()
    assert not list((tmp_path / "weights").iterdir())
