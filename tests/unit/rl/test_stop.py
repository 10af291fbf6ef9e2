"""Signals: SIGTERM saves and ends a run, Ctrl-C ends it, and a resumed run cannot tell that it was ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from sailrl.rl import checkpoints
from sailrl.rl.stop import Stop
from sailrl.rollout.engine import Request, Sampling
from tests.fakes.local_run import LocalRun, make_config
from tests.fakes.tiny_learner import same, weights
from tests.unit.rl.test_loop import lines


def _send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_sigterm_gives_up_what_is_being_generated_and_says_so() -> None:
    said: list[str] = []

    async def story(stop: Stop) -> tuple[Any, Any]:
        with stop.can_save():
            before = await stop.unless(asyncio.sleep(0, result=1))
            asyncio.get_running_loop().call_later(0.01, _send, signal.SIGTERM)
            return before, await stop.unless(asyncio.sleep(30, result=2))

    stop = Stop(said.append)
    with stop.listening():
        assert asyncio.run(story(stop)) == (1, None)
    assert stop.asked
    assert "saving at the next safe point" in said[0]


def test_sigterm_with_nothing_to_save_ends_the_process_in_order() -> None:
    stop = Stop()
    with stop.listening(), pytest.raises(SystemExit) as caught:
        _send(signal.SIGTERM)
    assert caught.value.code == 0


def test_ctrl_c_interrupts_a_blocking_call() -> None:
    stop = Stop()
    with stop.listening(), pytest.raises(KeyboardInterrupt):
        _send(signal.SIGINT)
    assert not stop.asked  # nothing is saved for it


def test_ctrl_c_takes_down_what_was_opened_even_while_a_thread_waits_for_the_learner() -> None:
    program = """
import asyncio, os, signal, threading
from sailrl.rl.stop import Stop

learner_is_gone = threading.Event()

async def job():
    asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGINT)
    try:
        await asyncio.to_thread(learner_is_gone.wait)
    finally:
        await asyncio.sleep(0.01)  # workers are asked to stop
        learner_is_gone.set()
        print("closed", flush=True)

with Stop().listening():
    try:
        asyncio.run(job())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False, capture_output=True, text=True)
    assert done.stdout.split() == ["closed", "interrupted"], done.stderr
    assert done.returncode == 0


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Stop().listening():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_process_at_once(second: int, code: int) -> None:
    program = f"""
import os, signal, time
from sailrl.rl.stop import Stop
with Stop().listening():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), {int(second)})
        time.sleep(30)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=20, check=False)
    assert done.returncode == code


class Ended(LocalRun):
    """Gets SIGTERM in the middle of sampling wave number ``at``."""

    def __init__(self, at: int, *args: Any) -> None:
        super().__init__(*args)
        self.session.stop = Stop()
        generate, calls = self.pool.generate, iter(range(at))

        async def interrupted(requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None) -> Any:
            last = next(calls, None) is None
            async for item in generate(requests, sampling, seed=seed):
                if last and not self.session.stop.asked:
                    _send(signal.SIGTERM)
                yield item
                await asyncio.sleep(0)

        self.pool.generate = interrupted  # type: ignore[method-assign]

    async def run(self, training: Any) -> None:
        with self.session.stop.can_save():
            await training

    def train(self) -> Self:
        with self.session.stop.listening():
            return super().train()


@pytest.mark.parametrize(("at", "saved"), [(0, None), (2, 1), (5, 2)], ids=["first eval", "second episode", "third"])
def test_a_run_that_was_asked_to_end_and_resumed_is_the_run_that_was_not(
    tiny_folder: Path, tmp_path: Path, at: int, saved: int | None
) -> None:
    """Waves: evaluation, episode 1, episode 2, evaluation, ...; checkpoints are due every second episode."""
    whole = LocalRun(make_config(), tmp_path / "whole", tiny_folder).train()
    folder = tmp_path / "ended"
    ended = Ended(at, make_config(), folder, tiny_folder).train()
    assert ended.session.stop.asked
    found = checkpoints.latest(folder)
    assert (found and checkpoints.load(found).episode) == saved
    resumed = LocalRun(make_config(), folder, tiny_folder).train()
    assert lines(folder, timing=False) == lines(whole.run_dir, timing=False)
    assert (folder / "rollouts.jsonl").read_bytes() == (whole.run_dir / "rollouts.jsonl").read_bytes()
    assert same(weights(resumed.learners.learner), weights(whole.learners.learner))
