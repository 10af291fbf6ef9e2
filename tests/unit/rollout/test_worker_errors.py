"""An error in a worker is shown as one sentence, without what Ray wraps around it."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from sailrl.errors import DataError, RolloutError, SailError, WorkerDied
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
