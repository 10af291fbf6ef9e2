"""While the learner works, the run's event loop goes on: it takes in and scores what engines finish."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from sailrl.data.batch import Sample
from sailrl.errors import CheckpointError, MismatchError, WeightSyncError
from sailrl.learner.diagnose import Finding
from sailrl.rl import checkpoints
from sailrl.types import Prompt
from tests.fakes.local import LocalEngine, LocalLearners
from tests.fakes.local_run import LocalRun, make_config

PROBE = {"prompt_logprobs": True, "limit_first_update": True}


class Watched(LocalLearners):
    """Notes of each call whether the event loop took its turn meanwhile. On the loop's own thread it cannot."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.turned: dict[str, bool] = {}

    def _look(self, call: str) -> None:
        turn = threading.Event()
        self.loop.call_soon_threadsafe(turn.set)
        self.turned[call] = turn.wait(5) and self.turned.get(call, True)

    def save(self, folder: str) -> None:
        self._look("save")
        super().save(folder)

    def prompt_logprobs(self, prompts: Sequence[Prompt], *, rounded: bool = False) -> list[list[float]]:
        self._look("prompt_logprobs")
        return super().prompt_logprobs(prompts, rounded=rounded)

    def limit_first_update(self, mean_dlogp: float) -> None:
        self._look("limit_first_update")
        super().limit_first_update(mean_dlogp)

    def explain_weights(self, *args: Any) -> Finding:
        self._look("explain_weights")
        return super().explain_weights(*args)

    def explain_responses(self, samples: Sequence[Sample], engine_prompts: Sequence[Sequence[int]]) -> Finding:
        self._look("explain_responses")
        return super().explain_responses(samples, engine_prompts)

    def free_memory(self) -> None:
        self._look("free_memory")


class WatchedRun(LocalRun):
    """A run whose learner is watched."""

    async def run(self, training: Coroutine[Any, Any, None]) -> None:
        watched = Watched(self.learners.learner)
        watched.loop = asyncio.get_running_loop()
        self.learners = self.session.learners = watched
        self.session.probe._learners = self.session.sync._learners = watched  # type: ignore[attr-defined]
        await training

    def turned(self) -> dict[str, bool]:
        assert isinstance(self.learners, Watched)
        return self.learners.turned


class Deaf(LocalEngine):
    """Keeps the weights that it started with."""

    def _load(self, folder: str | Path) -> None:
        if not hasattr(self, "model"):
            super()._load(folder)


class Biased(LocalEngine):
    """Says other log-probabilities of its responses than it samples with."""

    def _completion(self, ids: list[int], logprobs: list[float], ends: list[int]) -> Any:
        return super()._completion(ids, [value - 1.0 for value in logprobs], ends)


def test_checkpoints_and_the_probe_leave_the_event_loop_free(tiny_folder: Path, tmp_path: Path) -> None:
    run = WatchedRun(make_config(), tmp_path, tiny_folder)
    run.train()
    assert run.turned() == PROBE | {"save": True}


def test_engines_that_share_the_gpu_are_woken_without_stopping_the_event_loop(
    tiny_folder: Path, tmp_path: Path
) -> None:
    run = WatchedRun(make_config(placement="colocated", sync={"method": "disk"}), tmp_path, tiny_folder)
    run.train()
    assert run.turned()["free_memory"]


def test_explaining_a_publish_leaves_the_event_loop_free(tiny_folder: Path, tmp_path: Path) -> None:
    run = WatchedRun(make_config(), tmp_path, tiny_folder)
    run.pool.engine = Deaf(tiny_folder)
    with pytest.raises(WeightSyncError):
        run.train()
    assert run.turned() == PROBE | {"explain_weights": True}


def test_a_diagnosis_leaves_the_event_loop_free(tiny_folder: Path, tmp_path: Path) -> None:
    run = WatchedRun(make_config(mismatch={"action": "pause"}), tmp_path, tiny_folder)
    run.pool.engine = Biased(tiny_folder)
    with pytest.raises(MismatchError):
        run.train()
    assert run.turned() == PROBE | {"explain_responses": True, "save": True}


class Elsewhere(LocalLearners):
    """Writes its checkpoints to a disk that the run does not see."""

    def save(self, folder: str) -> None:
        pass


def test_a_checkpoint_without_the_learners_files_is_never_called_complete(tiny_folder: Path, tmp_path: Path) -> None:
    run = LocalRun(make_config(), tmp_path, tiny_folder)
    run.learners = run.session.learners = Elsewhere(run.learners.learner)
    with pytest.raises(CheckpointError, match=r"wrote learner.json to .*, and this one does not see it"):
        run.train()
    assert checkpoints.latest(tmp_path) is None
