"""Both ends of a rollout worker, without Ray: which calls share a Ray call, and how errors are passed on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from ray.exceptions import ActorDiedError

from sailrl.errors import DataError, WorkerDied
from sailrl.rollout import worker as module
from sailrl.rollout.engine import Request, Sampling
from sailrl.rollout.worker import RemoteWorker
from sailrl.types import Completion

T = TypeVar("T")
ONE = Sampling(samples=1, temperature=1.0, max_tokens=8)


class Engine:
    """Answers a prompt when its gate is opened, with its first token as text; refuses token 0, breaks at token 1."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        await self.open.wait()
        for request in requests:
            first = request.token_ids[0]
            if first < 2:
                raise [DataError("no such image"), ValueError("what is that?")][first]
            yield request.index, [Completion([first], [0.0], f"{first}/{seed}", "stop", 0)]


class Line:
    """Stands in for Ray: passes calls to the actor and counts them. When cut, every call fails as if the actor died."""

    def __init__(self) -> None:
        self.engine, self.calls, self.cut = Engine(), list[str](), asyncio.Event()
        actor: Any = module.RolloutWorker
        self._actor = actor.__ray_metadata__.modified_class(lambda: self.engine, os.getcwd())

    def __getattr__(self, name: str) -> Any:
        return _Method(partial(self._call, name))

    async def _call(self, name: str, *args: Any) -> Any:
        self.calls.append(name)
        if name == "start":
            return None
        answer = asyncio.ensure_future(getattr(self._actor, name)(*args))
        cut = asyncio.ensure_future(self.cut.wait())
        await asyncio.wait([answer, cut], return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        if self.cut.is_set():
            answer.cancel()
            raise ActorDiedError()
        return answer.result()


class _Method:
    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def remote(self, *args: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._call(*args))


def run(what: Callable[[RemoteWorker, Line], Awaitable[T]], monkeypatch: pytest.MonkeyPatch) -> T:
    async def whole() -> T:
        line = Line()
        options = SimpleNamespace(remote=lambda build, start_folder: line)
        monkeypatch.setattr(module, "RolloutWorker", SimpleNamespace(options=lambda **_: options))
        return await asyncio.wait_for(what(RemoteWorker(lambda: None, {}), line), timeout=10)  # type: ignore[arg-type, return-value]

    return asyncio.run(whole())


async def ask(worker: RemoteWorker, *firsts: int, seed: int | None = None) -> list[str]:
    requests = [Request(number, [first]) for number, first in enumerate(firsts)]
    return [found[0].text async for _, found in worker.generate(requests, ONE, seed=seed)]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_calls_of_one_turn_of_the_loop_share_a_ray_call_and_so_do_results(monkeypatch: pytest.MonkeyPatch) -> None:
    async def twelve_groups(worker: RemoteWorker, line: Line) -> list[list[str]]:
        groups = [asyncio.ensure_future(ask(worker, first)) for first in range(2, 14)]
        await settle()
        assert line.calls == ["start", "generate", "results"]
        line.engine.open.set()
        answers = await asyncio.gather(*groups)
        assert line.calls.count("generate") == 1
        assert line.calls.count("results") <= 3
        return answers

    assert run(twelve_groups, monkeypatch) == [[f"{first}/None"] for first in range(2, 14)]


def test_a_wave_comes_in_its_order_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wave(worker: RemoteWorker, line: Line) -> list[str]:
        line.engine.open.set()
        return await ask(worker, 7, 5, 9, seed=3)

    assert run(wave, monkeypatch) == ["7/3", "5/3", "9/3"]


def test_an_error_of_one_group_does_not_reach_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def three(worker: RemoteWorker, line: Line) -> list[Any]:
        line.engine.open.set()
        return await asyncio.gather(*(ask(worker, first) for first in (0, 5, 1)), return_exceptions=True)

    ours, answer, other = run(three, monkeypatch)
    assert isinstance(ours, DataError)
    assert str(ours) == "no such image"
    assert answer == ["5/None"]
    assert isinstance(other, WorkerDied)  # any other error counts as the death of the worker
    assert str(other) == "it failed in generate: ValueError: what is that?"


def test_the_death_of_the_worker_ends_waiting_calls_and_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cut_off(worker: RemoteWorker, line: Line) -> list[Any]:
        groups = [asyncio.ensure_future(ask(worker, first)) for first in (5, 6)]
        await settle()
        line.cut.set()
        first = await asyncio.gather(*groups, return_exceptions=True)
        return [*first, *await asyncio.gather(ask(worker, 7), return_exceptions=True)]

    errors = run(cut_off, monkeypatch)
    assert [type(error) for error in errors] == [WorkerDied] * 3
    assert all("died during generate" in str(error) for error in errors)


def test_results_of_a_cancelled_group_are_dropped_and_later_groups_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    async def given_up(worker: RemoteWorker, line: Line) -> list[str]:
        group = asyncio.ensure_future(ask(worker, 5))
        await settle()
        group.cancel()
        await asyncio.gather(group, return_exceptions=True)
        line.engine.open.set()
        await settle()
        return await ask(worker, 6)

    assert run(given_up, monkeypatch) == ["6/None"]
