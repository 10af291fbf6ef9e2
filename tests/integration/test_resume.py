"""SIGKILL at any moment, then the same command: the run is the one that was never interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.conftest import SHORT, Finished, end, log_of, metrics, repeatable_metrics, run, start, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""They hold nothing, and end after the minute that they give Ray's own server to come back."""


def _alive(processes: list[psutil.Process]) -> list[str]:
    running = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    return [str(p) for p in running if not p.name().startswith(RAY_AGENTS)]


def test_a_killed_run_leaves_no_process_and_goes_on_bit_for_bit(
    tiny_run: Finished, fresh_folder: Callable[[], Path], stopping: list[Any]
) -> None:
    folder = fresh_folder()
    killed = start(folder, *SHORT)
    stopping.append(killed)
    # Step 10 of 16 is the second update of the third episode; the last checkpoint is that of the second.

    def reached() -> bool:
        assert killed.poll() is None, log_of(folder).read_text()
        return any(line["step"] >= 10 for line in metrics(folder))

    wait_until("update 10", reached, timeout_s=480)
    started = end(killed)
    assert len(started) > 3  # Ray's processes, the workers, the engine
    assert sorted(path.name for path in (folder / "checkpoints").glob("episode-*")) == ["episode-000002"]
    wait_until(f"the end of {_alive(started)}", lambda: not _alive(started), timeout_s=30)

    resumed = run(folder, *SHORT)
    assert resumed.code == 0, resumed.output
    assert "8 of 16 updates are done" in resumed.output
    assert repeatable_metrics(folder) == repeatable_metrics(tiny_run.folder)
    last = "checkpoints/episode-000004"
    learner = sorted(path.name for path in (tiny_run.folder / last).glob("learner-*.safetensors"))
    assert len(learner) > 4  # one per layer
    for name in ("rollouts.jsonl", f"{last}/model/model.safetensors", *(f"{last}/{file}" for file in learner)):
        assert (folder / name).read_bytes() == (tiny_run.folder / name).read_bytes(), name
