"""vLLM's core in the process that asks it: order of calls, pauses and ends, with a scripted core in place of vLLM's.

What the real one computes this way is checked by every test with an engine.
"""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from sailrl.errors import RolloutError
from sailrl.rollout.vllm_core import InProcessCore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


class ScriptedCore:
    """Makes one output a step, as many as were asked for; records what it was called for."""

    fails_at: int | None = None
    step_s = 0.0
    begun = 0
    """Steps of the last one, with the one under way."""

    def __init__(self, config: Any, executor: Any, log_stats: bool) -> None:
        if config == "broken":
            raise ValueError("no such model")
        self.left, self.paused, self.said, self.steps = 0, False, list[str](), 0
        self.scheduler = SimpleNamespace(has_requests=lambda: self.left > 0 and not self.paused)  # as vLLM's

    def preprocess_add_request(self, request: int) -> tuple[int, int]:
        return request, 0

    def add_request(self, request: int, wave: int) -> None:
        self.said.append(f"add {request}")
        self.left += request

    def step_fn(self) -> tuple[dict[int, int], bool]:
        type(self).begun = self.steps + 1
        time.sleep(self.step_s)
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("out of memory")
        self.left -= 1
        return {0: self.steps}, True

    def post_step(self, executed: bool) -> None:
        pass

    def pause_scheduler(self, mode: str) -> None:
        self.said.append(f"pause {mode} after {self.steps}")
        self.paused = True

    def resume_scheduler(self) -> None:
        self.paused = False

    def what_was_said(self) -> list[str]:
        return self.said

    def refuse(self) -> None:
        raise ValueError("not now")

    def shutdown(self) -> None:
        self.said.append("shutdown")


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedCore]:
    class Mine(ScriptedCore):
        pass

    monkeypatch.setattr("vllm.v1.engine.core.EngineCore", Mine)
    return Mine


def open_core(config: str = "") -> InProcessCore:
    return InProcessCore(config, None, False, threads=1)


def test_every_step_of_a_request_is_told(scripted: type[ScriptedCore]) -> None:
    async def run() -> list[int]:
        core = open_core()
        await core.add_request_async(3)
        told = [await core.get_output_async() for _ in range(3)]
        core.shutdown()
        return told

    assert asyncio.run(run()) == [1, 2, 3]


def test_a_paused_core_takes_requests_but_no_step(scripted: type[ScriptedCore]) -> None:
    async def run() -> None:
        core = open_core()
        await core.pause_scheduler_async("keep")
        await core.add_request_async(2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(core.get_output_async(), timeout=0.2)
        assert await core.what_was_said_async() == ["pause keep after 0", "add 2"]
        await core.resume_scheduler_async()
        assert await core.get_output_async() == 1
        core.shutdown()

    asyncio.run(run())


def test_a_call_waits_for_the_step_under_way_and_no_longer(scripted: type[ScriptedCore]) -> None:
    scripted.step_s = 0.1

    async def run() -> None:
        core = open_core()
        await core.add_request_async(50)
        while scripted.begun < 2:
            await asyncio.sleep(0.001)
        await core.pause_scheduler_async("keep")  # while step 2 runs
        assert (await core.what_was_said_async())[-1] == "pause keep after 2"
        core.shutdown()

    asyncio.run(run())


def test_what_a_call_raises_is_the_callers_and_the_core_goes_on(scripted: type[ScriptedCore]) -> None:
    async def run() -> None:
        core = open_core()
        with pytest.raises(ValueError, match="not now"):
            await core.refuse_async()
        await core.add_request_async(1)
        assert await core.get_output_async() == 1
        assert not core.resources.engine_dead
        core.shutdown()

    asyncio.run(run())


def test_a_call_that_nobody_waits_for_any_more_is_left_out(scripted: type[ScriptedCore]) -> None:
    scripted.step_s = 0.5

    async def run() -> None:
        core = open_core()
        await core.add_request_async(3)
        while scripted.begun < 1:
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(core.pause_scheduler_async("keep"), timeout=0.01)  # while step 1 runs
        assert [await core.get_output_async() for _ in range(3)] == [1, 2, 3]
        assert await core.what_was_said_async() == ["add 3"]
        core.shutdown()

    asyncio.run(run())


def test_a_failed_step_is_the_end(scripted: type[ScriptedCore]) -> None:
    scripted.fails_at = 2

    async def run() -> None:
        core = open_core()
        await core.add_request_async(5)
        assert await core.get_output_async() == 1
        with pytest.raises(RuntimeError, match="out of memory"):
            await core.get_output_async()
        assert core.resources.engine_dead
        with pytest.raises(RolloutError, match="has stopped, so pause_scheduler"):
            await core.pause_scheduler_async("keep")

    asyncio.run(run())


def test_a_core_that_cannot_be_built_says_why(scripted: type[ScriptedCore]) -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match="no such model"):
            open_core("broken")

    asyncio.run(run())


def test_only_calls_of_the_connection_are_passed_on(scripted: type[ScriptedCore]) -> None:
    async def run() -> None:
        core = open_core()
        with pytest.raises(AttributeError, match="has no what_was_said"):
            core.what_was_said  # noqa: B018
        core.shutdown()
        core.shutdown()

    asyncio.run(run())
