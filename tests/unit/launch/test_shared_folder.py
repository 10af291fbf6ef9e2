"""Every machine must see the run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from sailrl.errors import ConfigError
from sailrl.launch.shared_folder import answer, require_shared


def test_a_folder_that_all_machines_see_is_accepted_and_left_empty(tmp_path: Path) -> None:
    require_shared(tmp_path, lambda folder, name, reply: {m: answer(folder, name, reply + m) for m in ("a", "b")})
    assert list(tmp_path.iterdir()) == []


def test_a_single_machine_is_not_asked(tmp_path: Path) -> None:
    require_shared(tmp_path, lambda folder, name, reply: {})


def test_a_machine_with_another_disk_under_the_same_name_is_named(tmp_path: Path) -> None:
    shared, other = tmp_path / "shared", tmp_path / "other"
    shared.mkdir()
    other.mkdir()

    def ask(folder: str, name: str, reply: str) -> dict[str, bool]:
        return {"10.0.0.1": answer(folder, name, f"{reply}10.0.0.1"), "10.0.0.2": answer(str(other), name, reply)}

    with pytest.raises(ConfigError, match=r"1 of 2 machines .* do not see the run folder .*shared: 10\.0\.0\.2\."):
        require_shared(shared, ask)
    assert list(shared.iterdir()) == []


def test_a_machine_whose_reply_does_not_arrive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"10\.0\.0\.9"):
        require_shared(tmp_path, lambda folder, name, reply: {"10.0.0.9": True})


def test_a_folder_that_is_not_there_is_answered_with_no(tmp_path: Path) -> None:
    assert not answer(str(tmp_path / "nowhere"), "name", "reply")
    (tmp_path / "name").touch()
    assert answer(str(tmp_path), "name", "reply")
