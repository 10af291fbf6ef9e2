"""All rollout workers as one engine, in Ray actors: ``crew`` with real workers, and a way to them from the learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from sailrl.errors import RolloutError, WorkerDied
from sailrl.rollout.crew import Crew
from sailrl.rollout.engine import Engine
from sailrl.rollout.roster import Roster
from sailrl.rollout.worker import RemoteWorker, readable


class RolloutPool(Crew[RemoteWorker]):
    """A crew in Ray actors.

    Args:
        build: makes one engine; runs in the worker's process.
        timeout_s: see ``Crew``.
        places: Ray's options for each worker (GPUs, where it runs); None for workers without an accelerator.
        settings: see ``Roster``.
    """

    def __init__(
        self,
        build: Callable[[], Engine],
        *,
        workers: int,
        timeout_s: float,
        places: Sequence[Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        where = places or [{}] * workers
        anywhere = {key: value for key, value in where[0].items() if key == "num_gpus"}  # for those added later

        def hire(number: int) -> RemoteWorker:
            return RemoteWorker(build, where[number] if number < len(where) else anywhere)

        super().__init__(Roster(hire, workers=workers, **settings), timeout_s=timeout_s)

    def engine_calls(self) -> EngineCalls:
        """A way to call the engines from another process."""
        return EngineCalls([worker.actor for worker in self.workers()])


class EngineCalls:
    """Calls steps of a weight update on every worker, from the learner's process. Blocks; travels between processes."""

    def __init__(self, workers: Sequence[Any]) -> None:
        self._workers = list(workers)

    def __call__(self, step: str, payloads: Sequence[Any], timeout_s: float) -> None:
        """Calls ``step`` with each worker's payload and waits for all.

        Raises:
            RolloutError: a worker failed, or was not done in time; it is named.
        """
        calls = [worker.transfer.remote(step, payload) for worker, payload in zip(self._workers, payloads, strict=True)]
        done, late = ray.wait(calls, num_returns=len(calls), timeout=timeout_s)
        for call in done:  # a worker that failed is the reason why others are late: report it first
            try:
                ray.get(call)
            except Exception as error:
                reason = readable(error, step)
                if isinstance(reason, WorkerDied):
                    raise WorkerDied(f"rollout worker {calls.index(call)} is lost: {reason}") from error
                raise reason from error
        if late:
            names = ", ".join(str(calls.index(call)) for call in late)
            raise RolloutError(
                f"rollout worker {names} did not finish {step} within {timeout_s:g} s (sync.timeout_s). "
                "Run the same command to resume."
            )
