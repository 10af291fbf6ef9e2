"""A name appears with its whole content or not at all."""

from pathlib import Path

import pytest

from sailrl.data.atomic import atomic


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path, shared: bool) -> None:
    (tmp_path / "a.txt").write_text("old")
    with atomic(tmp_path / "a.txt", shared=shared) as partial:
        partial.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")

    def fail() -> None:
        with atomic(tmp_path / "a.txt") as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_folder_of_a_killed_process_is_not_mixed_into_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".writing-model"
    left.mkdir()
    (left / "stale.bin").write_text("half")
    with atomic(tmp_path / "model") as partial:
        partial.mkdir()
        (partial / "config.json").write_text("{}")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["config.json"]


def test_two_writers_of_a_shared_path_do_not_meet(tmp_path: Path) -> None:
    with atomic(tmp_path / "a", shared=True) as first, atomic(tmp_path / "a", shared=True) as second:
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "a").read_text() == "1"  # the outer block ends last
