"""Engines and learner on the same GPUs take turns: the loop's calls, written down by an engine that can sleep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from sailrl.errors import MismatchError
from sailrl.rollout.engine import Request, Sampling, Stage
from sailrl.types import Completion
from tests.fakes.local import LocalEngine, LocalLearners
from tests.fakes.local_run import LocalRun, make_config

ONE_UPDATE = {"rollouts_per_episode": 16, "rollouts_per_update": 16, "passes_per_episode": 1, "episodes": 2}


class SharedEngine(LocalEngine):
    """Has weights and a cache, or not; does only what it can do with what it has, and writes it down."""

    def __init__(self, folder: Path, calls: list[str]) -> None:
        super().__init__(folder)
        self.calls, self.awake = calls, set[str]()

    async def sleep(self) -> bool:
        self.calls.append("sleep")
        self.awake = set()
        return True

    async def wake(self, stage: Stage) -> None:
        self.calls.append(f"wake {stage}")
        assert stage not in self.awake
        self.awake |= {stage}

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        self._use("generate", {"weights", "kv_cache"})
        async for item in super().generate(requests, sampling, seed=seed):
            yield item

    async def prompt_logprobs(self, request: Request) -> list[float]:
        self._use("probe", {"weights", "kv_cache"})
        return await super().prompt_logprobs(request)

    async def load_weights(self, folder: str, version: int) -> None:
        self._use("publish", {"weights"})  # the cache would take what handing over needs
        await super().load_weights(folder, version)

    def _use(self, what: str, needed: set[str]) -> None:
        self.calls.append(what)
        assert self.awake == needed, f"{what} with {self.awake or 'nothing'} awake"


class NotedLearners(LocalLearners):
    """One rank that writes down what it does, and does it only while the engine sleeps."""

    def __init__(self, learners: LocalLearners, engine: SharedEngine) -> None:
        super().__init__(learners.learner)
        self._engine, self.refuses = engine, False

    def update(self, rows: Sequence[int], *, clip_low: float, clip_high: float) -> dict[str, float]:
        assert not self._engine.awake
        self._engine.calls.append("learn")
        if self.refuses:
            raise MismatchError("too far apart")
        return super().update(rows, clip_low=clip_low, clip_high=clip_high)

    def free_memory(self) -> None:
        self._engine.calls.append("free")


def _run(folder: Path, run_dir: Path, **sections: Any) -> tuple[LocalRun, SharedEngine]:
    run = LocalRun(make_config(batch=ONE_UPDATE, **sections), run_dir, folder, eval_prompts=0)
    run.pool.engine = engine = SharedEngine(folder, [])
    run.session.learners = NotedLearners(run.learners, engine)
    return run, engine


def _in_order(calls: list[str]) -> list[str]:
    return [call for call, _ in groupby(calls)]


PUBLISH = ["free", "wake weights", "publish", "free", "wake kv_cache", "probe"]


def test_engine_and_learner_take_turns_and_weights_come_before_the_cache(tiny_folder: Path, tmp_path: Path) -> None:
    run, engine = _run(tiny_folder, tmp_path, placement="colocated")
    run.train()
    assert _in_order(engine.calls) == PUBLISH + ["generate", "sleep", "learn", *PUBLISH] * 2


def test_split_placement_never_sends_an_engine_to_sleep(tiny_folder: Path, tmp_path: Path) -> None:
    run, engine = _run(tiny_folder, tmp_path, placement="split")
    asyncio.run(run.session.rest_engines())
    asyncio.run(run.session.wake_engines())
    assert engine.calls == []


def test_a_refused_update_wakes_the_engine_before_it_is_asked_why(tiny_folder: Path, tmp_path: Path) -> None:
    run, engine = _run(tiny_folder, tmp_path, placement="colocated")
    run.session.learners.refuses = True  # type: ignore[attr-defined]
    with pytest.raises(MismatchError, match="too far apart"):
        run.train()
    after = engine.calls[engine.calls.index("sleep") :]
    assert _in_order(after) == ["sleep", "learn", "free", "wake weights", "free", "wake kv_cache", "probe"]
