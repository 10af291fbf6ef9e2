"""An error in a worker is shown as one sentence, without what Ray wraps around it."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError

from sailrl.errors import DataError, LearnerDied, RolloutError, SailError, WorkerDied
from sailrl.learner.group import raise_cause
from sailrl.rollout.worker import readable

TRACEBACK = "Traceback (most recent call last):\n  File ...\nRuntimeError: boom"


def _from_worker(cause: Exception) -> RayTaskError:
    return RayTaskError("generate", TRACEBACK, cause, proctitle="worker", pid=1, ip="127.0.0.1")


@pytest.mark.parametrize("cause", [RolloutError("vLLM cannot start"), DataError("no such image")])
def test_our_own_errors_keep_their_kind_and_their_words(cause: SailError) -> None:
    error = readable(_from_worker(cause), "start")
    assert type(error) is type(cause)
    assert str(error) == str(cause)


def test_other_errors_are_the_death_of_the_worker_with_what_was_being_done() -> None:
    error = readable(_from_worker(RuntimeError("boom")), "generate")
    assert isinstance(error, WorkerDied)
    assert str(error) == "it failed in generate: RuntimeError: boom"


def test_a_dead_actor_is_a_dead_worker_in_one_line() -> None:
    error = readable(ActorDiedError(), "generate")
    assert isinstance(error, WorkerDied)
    assert "died during generate" in str(error)
    assert "\n" not in str(error)


def test_an_error_while_a_worker_is_made_is_told_in_its_own_words() -> None:
    """Ray puts a whole traceback into one message; what went wrong stands at its end."""
    text = "ray::RolloutWorker.__init__()\n  File ..., line 1, in build\nOSError: no such folder"
    cause = RayTaskError("__init__", text, OSError("no such folder"))
    error = readable(ActorDiedError(cause), "start")
    assert isinstance(error, WorkerDied)
    assert str(error) == "it died during start (OSError: no such folder)"


NO_MEMORY = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: d\
d57) was 22.41GB used / 23.54GB limit (0.951997)
OOM kill reason: Memory usage 24062658150B exceeded threshold of 24012684697B (95.0% of 25276510208B limit)
Ray killed 1 worker(s) based on the killing policy
Considered workers: [
Selected to kill: (Actor(8277): job ID=01, task name=LearnerActor.__init__, pid=21556, actual memory used=9.07GB)
Not selected: (Actor(8278): job ID=01, task name=RolloutWorker.__init__, pid=21557, actual memory used=4.20GB)
]
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/"""


@pytest.mark.parametrize(
    ("message", "numbers"),
    [(NO_MEMORY, ": 22.41 of 23.54 GB were used, 9.07 GB of them by this process."), ("Task was killed", ".")],
)
def test_a_process_that_ray_ended_for_memory_is_named_with_what_to_lower(message: str, numbers: str) -> None:
    worker = readable(OutOfMemoryError(message), "generate")
    said = f"Ray ended it because the machine's memory was full{numbers}"
    assert isinstance(worker, WorkerDied)  # it is replaced, or the run starts again
    assert str(worker) == f"{said} Lower rollout.engine.kv_cache_gib or learner.max_tokens_per_microbatch"
    with pytest.raises(LearnerDied) as learner:  # the run starts again
        raise_cause("update", {0: OutOfMemoryError(message)})
    assert str(learner.value).startswith(f"learner rank 0 is lost in update. {said} Lower learner.max_tokens_per_")
