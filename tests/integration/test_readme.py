"""The README's own task runs as it is written there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.documents import blocks
from tests.integration.conftest import DEADLINE_S, ROOT, metrics

pytestmark = pytest.mark.slow


def test_the_task_of_the_readme_is_learned(tmp_path: Path) -> None:
    files = dict([*blocks(ROOT / "README.md", "python"), *blocks(ROOT / "README.md", "yaml")])
    for name in ("my_task.py", "my_task.yaml"):
        (tmp_path / name).write_text(files[name])
    command = [str(Path(sys.executable).with_name("sailrl")), "run", "my_task.yaml", "batch.episodes=5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    rewards = [line["reward/digits"] for line in metrics(tmp_path / "runs" / "my_task") if "reward/digits" in line]
    # The model is new: 10 of about 300 tokens are digits, so it begins near 0.03. Five episodes raise it to 0.2.
    assert rewards[0] < 0.1
    assert rewards[-1] > 2 * rewards[0]
