"""One run folder, one run."""

import os
from pathlib import Path

import pytest

from sailrl.errors import ConfigError
from sailrl.launch.run_folder import LOCK, claimed


def test_a_second_run_in_the_same_folder_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with claimed(tmp_path / "run"):
        with pytest.raises(ConfigError, match=f"process {os.getpid()}, is working"), claimed(tmp_path / "run"):
            pass
        with claimed(tmp_path / "another"):
            pass


def test_a_folder_is_free_again_when_its_run_has_ended_or_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(tmp_path):
        raise ZeroDivisionError
    (tmp_path / LOCK).write_text("4711")  # what a killed run leaves behind
    with claimed(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_a_readable_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"run\.dir"), claimed(tmp_path / "file" / "run"):
        pass
