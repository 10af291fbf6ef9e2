"""The proof of a publish: what an engine computes is what the learner computes, or the run stops and says why."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from sailrl.errors import WeightSyncError
from sailrl.sync.disk import DiskSync
from sailrl.sync.probe import Probe
from sailrl.types import Prompt
from tests.fakes.local import LocalEngine, LocalLearners, OnePool
from tests.fakes.tiny_learner import make_learner, make_prompt, make_samples, make_scope

PROMPTS = [make_prompt([10, 20, 30, 40, 50]), make_prompt([60, 70, 80])]


class Said:
    """Learner or pool that says fixed numbers."""

    def __init__(self, *said: Sequence[float]) -> None:
        self._said = [list(one) for one in said]

    def learner(self) -> Said:
        return self

    def prompt_logprobs(self, prompt: Prompt) -> list[float]:
        return self._said[0]

    def explain_stale(self, prompt: Prompt, engine: Sequence[float], previous: str) -> list[str]:
        return []


class SaidByEngines(Said):
    async def prompt_logprobs(self, prompt: Prompt) -> list[list[float]]:  # type: ignore[override]
        return self._said


def _check(
    mine: Sequence[float], *theirs: Sequence[float], tolerance: float = 1e-4, previous: str | None = "x"
) -> float:
    probe = Probe(Said(mine), SaidByEngines(*theirs), PROMPTS, tolerance=tolerance)
    return asyncio.run(probe.check(7, Path(previous) if previous else None))


def test_agreement_within_the_tolerance_returns_the_largest_difference() -> None:
    assert _check([-1.0, -2.0], [-1.0, -2.00005], [-1.00002, -2.0]) == pytest.approx(5e-5)


def test_one_token_of_one_engine_beyond_the_tolerance_stops_the_run() -> None:
    with pytest.raises(WeightSyncError, match=r"rollout worker 1 .* version 7 .*0\.0002 nats, allowed are 0\.0001"):
        _check([-1.0, -2.0], [-1.0, -2.0], [-1.0002, -2.0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_never_passes(value: float) -> None:
    with pytest.raises(WeightSyncError):
        _check([-1.0, -2.0], [-1.0, value], tolerance=1e9)


@pytest.mark.parametrize("place", [0, 1])
def test_a_nan_fails_wherever_it_stands(place: int) -> None:
    """max() over floats drops a NaN that is not its first argument."""
    theirs = [-1.0, -2.0]
    theirs[place] = math.nan
    with pytest.raises(WeightSyncError, match="not numbers"):
        _check([-1.0, -2.0], theirs)


def test_weights_that_are_nan_on_both_sides_do_not_agree() -> None:
    with pytest.raises(WeightSyncError, match="the weights themselves are broken"):
        _check([math.nan, -2.0], [math.nan, -2.0])


@pytest.mark.parametrize(
    ("difference", "tolerance", "may_be_rounding"),
    [(0.0009, 1e-4, True), (0.0011, 1e-4, False), (0.2, 0.1, False)],  # half precision has its room already
)
def test_a_small_difference_may_be_rounding_and_the_message_says_what_to_write(
    difference: float, tolerance: float, may_be_rounding: bool
) -> None:
    with pytest.raises(WeightSyncError, match="permuted, renamed or altered") as caught:
        _check([-1.0, -2.0], [-1.0, -2.0 - difference], tolerance=tolerance)
    assert ("write sync.probe_tolerance: 0.001, or" in str(caught.value)) == may_be_rounding


def test_a_failure_at_the_first_publish_asks_for_the_settings() -> None:
    with pytest.raises(WeightSyncError, match="first publish: compare dtype"):
        _check([-1.0], [-2.0], previous=None)


def test_a_difference_that_old_weights_do_not_explain_says_so() -> None:
    with pytest.raises(WeightSyncError, match="No group of the previous version explains it"):
        _check([-1.0], [-2.0])


@pytest.fixture
def run(tiny_folder: Path) -> tuple[LocalLearners, OnePool, DiskSync]:
    learners, pool = LocalLearners(make_learner(tiny_folder)), OnePool(LocalEngine(tiny_folder))
    return learners, pool, DiskSync(learners, pool, timeout_s=10)


def _learn(learners: LocalLearners) -> None:
    samples = make_samples(4)
    learners.set_episode(samples, [range(4)])
    learners.learner.update(range(4), make_scope(samples))


def test_a_publish_is_proved_and_its_absence_noticed(run: tuple[LocalLearners, OnePool, DiskSync]) -> None:
    learners, pool, sync = run
    probe = Probe(learners, pool, PROMPTS, tolerance=1e-4)
    asyncio.run(sync.publish(0))
    _learn(learners)
    with pytest.raises(WeightSyncError):  # the learner moved on, the engine was told nothing
        asyncio.run(probe.check(0, sync.previous))
    asyncio.run(sync.publish(1))
    assert asyncio.run(probe.check(1, sync.previous)) < 1e-5
    sync.close()


def test_a_layer_that_stayed_behind_is_named(run: tuple[LocalLearners, OnePool, DiskSync]) -> None:
    learners, pool, sync = run
    asyncio.run(sync.publish(0))
    engine = pool.engine
    assert isinstance(engine, LocalEngine)
    behind = {n: p.clone() for n, p in engine.model.state_dict().items() if ".self_attn." in n}
    _learn(learners)
    previous = sync.current
    asyncio.run(sync.publish(1))
    with torch.no_grad():
        engine.model.load_state_dict(behind, strict=False)
    with pytest.raises(WeightSyncError, match=r"previous version of: model\.layers\.0\.self_attn\."):
        asyncio.run(Probe(learners, pool, PROMPTS, tolerance=1e-4).check(1, previous))
    sync.close()


def test_a_failure_without_a_folder_of_older_weights_says_where_to_get_one() -> None:
    """Weights that went straight into the engines (nccl, ipc) leave nothing to compare with."""
    engines = SaidByEngines([-1.0])
    probe = Probe(Said([-1.0]), engines, PROMPTS, tolerance=1e-4)
    asyncio.run(probe.check(0, None))
    engines._said = [[-2.0]]
    with pytest.raises(WeightSyncError, match=r"They agreed before.*sync\.method=disk"):
        asyncio.run(probe.check(1, None))


def _prove(*theirs: float, version: int = 7) -> bool:
    """A worker that joins after version 7 was proved, when the learner has already learned on."""
    learner = Said([-1.0, -2.0])
    probe = Probe(learner, SaidByEngines([-1.0, -2.0]), PROMPTS, tolerance=1e-4)

    async def story() -> bool:
        await probe.check(7, None)
        learner._said = [[-5.0, -5.0]]

        async def ask(prompt: Prompt) -> list[float]:
            return list(theirs)

        return await probe.prove(3, version, ask)

    return asyncio.run(story())


def test_a_worker_that_comes_late_is_proved_by_what_the_learner_said_at_the_publish() -> None:
    assert _prove(-1.0, -2.00005)
    with pytest.raises(WeightSyncError, match=r"rollout worker 3 .* version 7 .* It came in place of another"):
        _prove(-1.0, -2.0002)
    with pytest.raises(WeightSyncError, match="rollout worker 3"):
        _prove(-5.0, -5.0)  # the learner's weights of now are not those that were published


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_late_worker_whose_numbers_are_none_is_not_proved(value: float) -> None:
    with pytest.raises(WeightSyncError):
        _prove(-1.0, value)


def test_a_version_the_learner_was_not_asked_about_proves_nothing() -> None:
    assert not _prove(-1.0, -2.0, version=8)
