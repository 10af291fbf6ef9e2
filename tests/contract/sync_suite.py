"""What every way of weights to the engines must do. A test class for a new one inherits ``SyncContract`` and gives a
``run``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from sailrl.errors import WeightSyncError
from sailrl.rollout.engine import Request, Sampling
from sailrl.sync.base import WeightSync
from sailrl.sync.probe import Probe
from tests.fakes.tiny_learner import make_prompt, make_samples, make_scope
from tests.fakes.transfer import SendingLearners, SeveralPool

PROMPTS = [make_prompt([10, 20, 30, 40, 50]), make_prompt([60, 70, 80])]
EXACT = 1e-5


@dataclass
class SyncRun:
    """A learner, its engines and the way between them."""

    learners: SendingLearners
    pool: SeveralPool
    sync: WeightSync

    def publish(self, version: int) -> None:
        asyncio.run(self.sync.publish(version))

    def learn(self) -> None:
        """One update, large enough for a probe to see."""
        samples = make_samples(4)
        self.learners.limit_first_update(100.0)  # they are made up, and no engine's
        self.learners.set_episode(samples, [range(4)])
        self.learners.learner.update(range(4), make_scope(samples))

    def difference(self) -> float:
        """Largest difference in nats between learner and engines; raises beyond 1e-4."""
        probe = Probe(self.learners, self.pool, PROMPTS, dtype="float32", tolerance=1e-4)
        return asyncio.run(probe.check(0)).max

    def version(self) -> int:
        """What engines stamp on a completion."""

        async def one() -> int:
            sampling = Sampling(samples=1, temperature=1.0, max_tokens=2)
            async for _, (completion,) in self.pool.generate([Request(0, [1, 2, 3])], sampling, seed=1):
                return completion.version
            raise AssertionError

        return asyncio.run(one())


class SyncContract:
    def test_engines_compute_with_what_was_published_and_not_with_what_was_not(self, run: SyncRun) -> None:
        run.learn()
        with pytest.raises(WeightSyncError):  # the learner moved on, the engines were told nothing
            run.difference()
        run.publish(1)
        assert run.difference() < EXACT

    def test_every_publish_brings_what_was_learned_since_the_last(self, run: SyncRun) -> None:
        for version in range(3):
            run.publish(version)
            assert run.difference() < EXACT
            run.learn()
            with pytest.raises(WeightSyncError):
                run.difference()

    def test_engines_stamp_the_published_version_on_what_they_make(self, run: SyncRun) -> None:
        for version in (0, 1, 7):
            run.publish(version)
            assert run.version() == version

    def test_the_learner_is_not_changed_by_a_publish(self, run: SyncRun) -> None:
        before = {name: tensor.clone() for name, tensor in run.learners.learner.policy.model.state_dict().items()}
        run.publish(1)
        after = run.learners.learner.policy.model.state_dict()
        assert all(before[name].equal(after[name]) for name in before)

    def test_previous_is_what_current_was(self, run: SyncRun) -> None:
        assert (run.sync.current, run.sync.previous) == (None, None)
        run.publish(0)
        first = run.sync.current
        run.publish(1)
        assert run.sync.previous == first

    def test_closing_twice_is_closing_once(self, run: SyncRun) -> None:
        run.publish(0)
        run.sync.close()
        run.sync.close()
