"""``sailrl report A B``: one page that compares runs, with nothing in it that can act."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sailrl.errors import DataError
from sailrl.report.comparison import COMPARISON_FILE, write_comparison
from tests.unit.report.conftest import write_run


def run(folder: Path, **settings: Any) -> Path:
    write_run(folder)
    (folder / "resolved.yaml").write_text(yaml.safe_dump({"run": {"dir": str(folder)}, **settings}))
    return folder


def cells(page: str, first: str) -> list[str]:
    """The cells of the table row that begins with ``first``."""
    (row,) = [row for row in re.findall(r"<tr>(.*?)</tr>", page) if row.startswith(f"<td>{first}</td>")]
    return re.findall(r"<td>(.*?)</td>", row)


def test_what_differs_comes_first_then_results_and_curves(tmp_path: Path) -> None:
    one = run(tmp_path / "one", learner={"learning_rate": 1e-6}, kind="rlvr")
    two = run(tmp_path / "two", learner={"learning_rate": 2e-6, "extra": 1}, kind="rlvr")
    path = write_comparison([one, two])
    assert path == one / COMPARISON_FILE
    page = path.read_text()
    assert cells(page, "learner.learning_rate") == ["learner.learning_rate", "1e-06", "2e-06"]
    assert cells(page, "learner.extra") == ["learner.extra", "–", "1"]
    assert "<td>kind</td>" not in page  # the same
    assert "<td>run.dir</td>" not in page  # always another
    # Two updates of 40 s; held out 8% and then 50%.
    assert cells(page, "two")[:5] == ["two", "2", "1 min 20 s", "50.0%", "50.0%"]
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == ["Differences of the configurations", "Results", "Curves"]
    assert "data:image/png;base64," in page


def test_equal_configurations_are_said_to_be_equal(tmp_path: Path) -> None:
    page = write_comparison([run(tmp_path / "a", x=1), run(tmp_path / "b", x=1)], tmp_path / "out.html").read_text()
    assert "The configurations are the same." in page


def test_names_and_settings_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>$x^"
    one, two = run(tmp_path / "a<b>$_$", note=evil), run(tmp_path / "b", note="\x1b[2J")
    page = write_comparison([one, two], tmp_path / "out.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "a&lt;b&gt;" in page
    assert "\x1b" not in page
    assert "default-src 'none'" in page


def test_runs_of_one_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    page = write_comparison([run(tmp_path / "x" / "run"), run(tmp_path / "y" / "run")]).read_text()
    assert "x/run" in page
    assert "y/run" in page


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    one = run(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has nothing to compare"):
        write_comparison([one, tmp_path / "empty"])
    with pytest.raises(DataError, match="there is no run folder"):
        write_comparison([one, tmp_path / "gone"])
    with pytest.raises(DataError, match="named twice"):
        write_comparison([one, one])
    with pytest.raises(DataError, match="cannot write"):
        write_comparison([one, run(tmp_path / "two")], tmp_path / "no" / "such.html")


def test_a_run_without_a_configuration_is_compared_all_the_same(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one", x=1), write_run(tmp_path / "two")
    (tmp_path / "three").mkdir()
    broken = write_run(tmp_path / "four")
    (broken / "resolved.yaml").write_text("a: [")
    page = write_comparison([one, two, broken]).read_text()
    assert cells(page, "x") == ["x", "1", "–", "–"]
