"""The soak benchmark, as short as it can be: a worker dies, the learner dies, the judge fails, SIGTERM comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_run_that_is_hurt_all_the_time_ends_whole(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/soak.py", "--minutes", "0", "--folder", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1100, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "workers lost 2, learner restarts 1" in said
    assert "audit: every episode complete, no rollout lost, none twice" in said
    log = (tmp_path / "run.log").read_text()
    assert "The run was asked to end. Run the same command to go on from" in log
    assert "Traceback" not in log
