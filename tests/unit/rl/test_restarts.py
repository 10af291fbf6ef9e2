"""A session that loses a process it cannot replace is started again, but not for ever; and how the end of a run that
did not reach its last episode is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sailrl.errors import LearnerDied, LearnerError, RolloutError, SailError, WorkerDied
from sailrl.launch.restarts import Restarts
from sailrl.rl import checkpoints
from sailrl.rl.checkpoints import RunState
from sailrl.rl.start import asked_to_end, ended_early, restarted
from sailrl.rollout.collect import NothingToLearn


class Sessions:
    """Fails with these errors in turn, then ends well."""

    def __init__(self, *errors: SailError) -> None:
        self.errors, self.begun, self.said = list(errors), 0, list[str]()

    async def __call__(self) -> None:
        self.begun += 1
        if self.errors:
            raise self.errors.pop(0)

    def run(self, most: int) -> None:
        asyncio.run(restarted(self, Restarts(most, self.said.append)))


def test_a_dead_learner_or_worker_starts_the_run_again() -> None:
    sessions = Sessions(LearnerDied("learner rank 0 died in update."), WorkerDied("rollout worker 1 is lost."))
    sessions.run(3)
    assert sessions.begun == 3
    assert sessions.said == [
        "learner rank 0 died in update.",
        "starting again from the last checkpoint (1 of 3)",
        "rollout worker 1 is lost.",
        "starting again from the last checkpoint (2 of 3)",
    ]


@pytest.mark.parametrize("most", [0, 2])
def test_it_starts_again_as_often_as_allowed(most: int) -> None:
    sessions = Sessions(*[LearnerDied("learner rank 0 died in update.")] * 9)
    with pytest.raises(LearnerError, match=rf"died in update\. .* {most} times, .* run\.max_restarts"):
        sessions.run(most)
    assert sessions.begun == most + 1


@pytest.mark.parametrize("error", [LearnerError("the loss is not finite"), RolloutError("replaced 3 times")])
def test_what_would_happen_again_ends_the_run_at_once(error: SailError) -> None:
    sessions = Sessions(error)
    with pytest.raises(type(error), match=str(error)):
        sessions.run(3)
    assert sessions.begun == 1


def test_a_run_that_was_asked_to_end_names_its_checkpoint_or_says_that_there_is_none() -> None:
    assert "go on from runs/a/checkpoints/episode-000002." in asked_to_end(Path("runs/a/checkpoints/episode-000002"))
    assert "Nothing was saved" in asked_to_end(None)
    assert "None" not in asked_to_end(None)


def test_a_run_without_anything_left_to_learn_says_how_to_take_that_as_its_end(tmp_path: Path) -> None:
    saved = checkpoints.save(tmp_path, RunState(episode=3), lambda folder: None, keep=1)
    told = ended_early(NothingToLearn("10 waves gave 0 of 4 groups."), saved, 8)
    assert "after 3 of 8 episodes: 10 waves gave 0 of 4 groups." in told
    assert "set batch.episodes=3" in told
