"""Processes of a run are killed, and the run goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.conftest import SHORT, Finished, log_of, metrics, repeatable_metrics, start, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]


def process_of(run: Any, name: str) -> psutil.Process:
    """The one process of a run whose name begins so."""
    (found,) = (p for p in psutil.Process(run.pid).children(recursive=True) if p.name().startswith(name))
    return found


def test_a_run_whose_worker_is_killed_is_the_run_that_was_left_alone(
    tiny_run: Finished, fresh_folder: Callable[[], Path], stopping: list[Any]
) -> None:
    folder = fresh_folder()
    run = start(folder, *SHORT)
    stopping.append(run)

    def reached(step: int) -> Callable[[], bool]:
        def look() -> bool:
            assert run.poll() is None, log_of(folder).read_text()
            return any(line["step"] >= step for line in metrics(folder))

        return look

    wait_until("update 4", reached(4), timeout_s=480)  # its line is written when the next episode is being generated
    os.kill(process_of(run, "ray::RolloutWorker").pid, signal.SIGKILL)
    assert run.wait(timeout=480) == 0, log_of(folder).read_text()

    said = log_of(folder).read_text()
    assert said.count("rollout worker 0 is lost") == 1
    assert said.count("rollout worker 0 is back at work") == 1
    assert metrics(folder)[-2]["workers/restarts"] == 1
    assert repeatable_metrics(folder) == repeatable_metrics(tiny_run.folder)
    for name in ("rollouts.jsonl", "checkpoints/episode-000004/model/model.safetensors"):
        assert (folder / name).read_bytes() == (tiny_run.folder / name).read_bytes(), name
