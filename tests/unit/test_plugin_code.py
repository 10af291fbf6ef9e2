"""The fingerprint of a plug-in's code: what the plug-in uses is in it, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sailrl.plugins import code_digest, sources

PACKAGE = {
    "mine_pkg/__init__.py": "",
    "mine_pkg/reward.py": "from mine_pkg import words\nfrom .units import table\nSLOW = 'mine_pkg.slow:compare'\n"
    "class Mine:\n    def __call__(self, response, problem):\n        import mine_pkg.late\n",
    "mine_pkg/words.py": "import mine_pkg.deep.inner\n",
    "mine_pkg/deep/__init__.py": "",
    "mine_pkg/deep/inner.py": "import json, os.path\n",
    "mine_pkg/units/__init__.py": "from ..words import x as table\n",
    "mine_pkg/slow.py": "",
    "mine_pkg/late.py": "",
    "mine_pkg/unrelated.py": "import mine_pkg.reward\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + ("x = 1\n" if name.endswith("words.py") else ""))
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine_pkg"]:
        del sys.modules[name]


def test_the_code_of_a_plug_in_is_all_that_it_imports_or_names(package: Path) -> None:
    names = {str(file.relative_to(package)) for file in sources("mine_pkg.reward:Mine")}
    assert names == set(PACKAGE) - {"mine_pkg/unrelated.py"}


@pytest.mark.parametrize("changed", ["reward.py", "words.py", "deep/inner.py", "slow.py", "late.py"])
def test_a_change_in_code_that_is_used_changes_the_fingerprint(package: Path, changed: str) -> None:
    before = code_digest("mine_pkg.reward:Mine")
    file = package / "mine_pkg" / changed
    file.write_text(file.read_text() + "# another rule\n")
    assert code_digest("mine_pkg.reward:Mine") != before


def test_a_change_in_code_that_is_not_used_does_not(package: Path) -> None:
    before = code_digest("mine_pkg.reward:Mine")
    (package / "mine_pkg" / "unrelated.py").write_text("# another rule\n")
    (package / "other.py").write_text("")
    assert code_digest("mine_pkg.reward:Mine") == before


def test_a_single_file_counts_with_what_it_imports_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "other.py").write_text("")
    mine = tmp_path / "mine.py"
    mine.write_text("def score(response, problem):\n    import helper, json, rewards.repetition\n")
    names = [file.name for file in sources(f"{mine}:score")]
    assert {"mine.py", "helper.py", "repetition.py"} <= set(names)
    assert "other.py" not in names
    assert "boxed.py" not in names


def test_a_judge_is_no_part_of_the_code_of_a_rule() -> None:
    assert not [file for file in sources("rewards.boxed:BoxedAnswer") if "judge" in str(file)]
    assert [file for file in sources("rewards.judge:Judge") if file.name == "prompts.py"]


def test_an_object_without_python_code_has_none() -> None:
    assert sources("math:sqrt") == []
    assert sources("builtins:len") == []
