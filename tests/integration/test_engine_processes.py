"""The processes that vLLM starts on GPUs, on a CPU: its core in a process of its own, and one worker for each of
several devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sailrl.demo import tiny_text
from tests.integration.conftest import ROOT, SHORT, log_of, metrics, start, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ONE_UPDATE_AN_EPISODE = ("batch.rollouts_per_update=64", "batch.passes_per_episode=1", "eval.every_episodes=4")


def _core_of(process: int) -> list[psutil.Process]:
    """vLLM's processes below a process."""
    return [p for p in psutil.Process(process).children(recursive=True) if p.name().startswith("VLLM")]


def test_a_run_with_engines_over_two_devices_survives_the_death_of_a_worker(
    fresh_folder: Callable[[], Path], stopping: list[Any]
) -> None:
    folder = fresh_folder()
    run = start(folder, *SHORT, *ONE_UPDATE_AN_EPISODE, "rollout.engine.tensor_parallel=2")
    stopping.append(run)

    def updated() -> bool:
        assert run.poll() is None, log_of(folder).read_text()
        return any("reward/mean" in line for line in metrics(folder))

    wait_until("update 1", updated, timeout_s=300)
    (worker,) = (p for p in psutil.Process(run.pid).children(recursive=True) if p.name().startswith("ray::Rollout"))
    orphans = _core_of(worker.pid)
    assert len(orphans) >= 3  # the core and two workers
    os.kill(worker.pid, signal.SIGKILL)
    assert run.wait(timeout=400) == 0, log_of(folder).read_text()
    assert log_of(folder).read_text().count("rollout worker 0 is back at work") == 1
    assert not [p for p in orphans if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    published = [line["sync/max_abs_dlogp"] for line in metrics(folder) if "sync/max_abs_dlogp" in line]
    assert len(published) == 4
    assert max(published) < 1e-4  # float32 on both sides


OWNER = """
import asyncio, sys
from sailrl.launch.engines import WORKER_EXTENSION
from sailrl.rollout.vllm_engine import VllmEngine

async def main(folder):
    options = {"dtype": "float32", "enforce_eager": True, "distributed_executor_backend": "mp"}
    engine = VllmEngine(folder, max_tokens=64, options=options, kv_cache_gib=1.0, worker_extension=WORKER_EXTENSION,
                        load_image=lambda digest: None, crowding=lambda images: {})
    await engine.start()
    print("started", flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


def test_no_process_of_an_engine_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    """A process that is killed for its memory cannot say goodbye. What it leaves behind would keep the GPU."""
    tiny_text.build(tmp_path / "model", hidden_size=32, layers=1)
    (tmp_path / "owner.py").write_text(OWNER)
    owner = subprocess.Popen(
        [sys.executable, str(tmp_path / "owner.py"), str(tmp_path / "model")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "started\n"
        processes = _core_of(owner.pid)
        assert processes
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive
