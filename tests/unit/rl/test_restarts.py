"""A session that loses a process it cannot replace is started again, but not for ever."""

from __future__ import annotations

import asyncio

import pytest

from sailrl.errors import LearnerDied, LearnerError, RolloutError, SailError, WorkerDied
from sailrl.rl.start import restarted


class Sessions:
    """Fails with these errors in turn, then ends well."""

    def __init__(self, *errors: SailError) -> None:
        self.errors, self.begun, self.said = list(errors), 0, list[str]()

    async def __call__(self) -> None:
        self.begun += 1
        if self.errors:
            raise self.errors.pop(0)

    def run(self, most: int) -> None:
        asyncio.run(restarted(self, most, self.said.append))


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
