"""Real runs of the tiny demo, shortened, in processes of their own. They take minutes, so tests share them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from sailrl.demo import tiny_text
from sailrl.rollout.vllm_engine import VllmEngine
from tests.contract.engine_suite import Bench

ROOT = Path(__file__).parents[2]
TINY = ROOT / "configs" / "rlvr_tiny_text.yaml"
SHORT = (
    "warm_start.steps=60",
    "data.train.limit=256",
    "data.eval.limit=32",
    # Every group is kept: after 60 steps nearly all answers are wrong, and most groups would be dropped.
    "rollout.dynamic_sampling.enabled=false",
    "batch.rollouts_per_episode=64",
    "batch.rollouts_per_update=32",
    "batch.passes_per_episode=2",
    "batch.episodes=4",
    "eval.every_episodes=2",
    "checkpoint.every_episodes=2",
    # On a crowded machine a reward may take long; one that ran out of time would make two runs differ.
    "rewards.deadline_s=60",
    "rewards.parts.boxed.args={deadline_s: 60}",
)
"""Four episodes of four updates each."""
DEADLINE_S = 480.0


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    folder: Path
    code: int
    output: str

    def metrics(self) -> list[dict[str, Any]]:
        return metrics(self.folder)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl."""
    file = folder / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def repeatable_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the machine and its accidents."""

    def of_the_machine(key: str) -> bool:
        return key.startswith(("time/", "tokens/trained_per_s", "workers/")) or "/latency_s/" in key

    return [{key: value for key, value in line.items() if not of_the_machine(key)} for line in metrics(folder)]


def start(folder: Path, *overrides: str, config: Path = TINY) -> subprocess.Popen[str]:
    """``sailrl run`` on ``folder``, in a session of its own; what it prints goes into ``log_of(folder)``."""
    command = [str(Path(sys.executable).with_name("sailrl")), "run", str(config), f"run.dir={folder}", *overrides]
    with log_of(folder).open("w") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )


def log_of(folder: Path) -> Path:
    return folder.with_suffix(".log")


def run(folder: Path, *overrides: str, config: Path = TINY) -> Finished:
    """``sailrl run`` to its end."""
    process = start(folder, *overrides, config=config)
    try:
        code = process.wait(timeout=DEADLINE_S)
    except BaseException:
        end(process)
        raise
    return Finished(folder, code, log_of(folder).read_text())


def end(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Kills a run's first process with SIGKILL, and returns all that it had started."""
    started = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return started


def wait_until(what: str, true: Callable[[], bool], timeout_s: float) -> None:
    """Looks every tenth of a second. Raises AssertionError at the deadline."""
    late = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < late, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The shortened tiny demo, run to its end without a break."""
    done = run(tmp_path_factory.mktemp("runs") / "whole", *SHORT)
    assert done.code == 0, done.output
    return done


@pytest.fixture(scope="session")
def fresh_folder(tiny_run: Finished, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Run folders that have the model and its warm start already, so that nobody trains them twice."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("runs") / "run"
        folder.mkdir()
        for part in ("model", "warm_start"):
            shutil.copytree(tiny_run.folder / part, folder / part)
        return folder

    return make


@pytest.fixture
def stopping() -> Iterator[list[subprocess.Popen[str]]]:
    """Runs put into this list are ended with the test, whatever becomes of it."""
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        if process.poll() is None:
            end(process)


@pytest.fixture(scope="module")  # not of the session: a process can have one such engine at a time
def vllm_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One real vLLM engine for all tests that need no run: experts and tied embeddings, where reloading goes wrong."""
    folder = tmp_path_factory.mktemp("engine") / "model"
    tiny_text.build(folder, hidden_size=64, layers=2, experts=4, tie_embeddings=True)
    # Ways to sample that a model's own file proposes, as Qwen's do: none of them may change anything.
    proposed = {"do_sample": True, "temperature": 0.1, "top_k": 2, "top_p": 0.5, "repetition_penalty": 2.0}
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | proposed))
    engine = VllmEngine(
        str(folder),
        max_tokens=128,
        options={"dtype": "float32", "max_num_seqs": 64, "enforce_eager": True},
        kv_cache_gib=1.0,
        worker_extension="tests.fakes.careless.CarelessExtension",
        load_image=lambda digest: None,
        crowding=lambda images: {},
        sleeps=True,  # on a CPU vLLM cannot, and says so
    )
    with asyncio.Runner() as loop:
        loop.run(engine.start())
        yield Bench(engine, folder, loop)
        loop.run(engine.stop())
