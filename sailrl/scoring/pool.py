"""Worker processes for CPU-bound rewards, with a deadline and a memory limit per row. A failure costs that row only."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Literal

from sailrl.errors import RewardError
from sailrl.killable import OUT_OF_MEMORY, ChildDied, DeadlineExceeded, Killable
from sailrl.scoring.calls import Outcome
from sailrl.scoring.spec import PartSpec, absolute
from sailrl.scoring.worker import pack_problem, unpack_outcome
from sailrl.types import Problem, Score

MAX_DRY_RUNS = 1024
DryRun = Literal["in time", "too slow", "too large", "none"]


class RewardPool:
    """``workers`` killable processes, each with a thread that waits for it. Processes start with the first request.

    A row whose worker dies, or is killed without having had the processor, is tried once more alone, while no other
    row runs, so that a busy machine or the memory of other rows does not count against it. After that it is
    ``timed_out`` or ``failed``, or 0 if the reward can show that the response is the cause (see
    ``sailrl.types.Reward``).
    """

    def __init__(self, parts: Mapping[str, PartSpec], *, workers: int, deadline_s: float, memory_bytes: int) -> None:
        if workers < 1:
            raise RewardError(f"scoring needs at least 1 worker, got {workers}.")
        self._deadline_s = deadline_s
        plain = {name: (part.use, dict(part.args)) for name, part in ((n, absolute(p)) for n, p in parts.items())}
        self._children = [
            Killable("sailrl.scoring.worker:RewardWorker", init=[plain], memory_bytes=memory_bytes)
            for _ in range(workers)
        ]
        self._idle: SimpleQueue[Killable] = SimpleQueue()
        for child in self._children:
            self._idle.put(child)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="scoring")
        self._turns = _Turns()
        self._started = False
        self._dry_runs: dict[tuple[str, str], DryRun] = {}
        """By part and problem: the responses of a group share one."""
        self.calls = 0
        """Calls of workers so far: each takes at most the deadline, and a row has at most three."""

    def submit(self, name: str, response: str, problem: Problem, tokens: int | None) -> Future[Outcome]:
        """Scores ``response`` with the part ``name``. The future never fails: what goes wrong is in the score."""
        self._start()
        return self._threads.submit(self._score, name, response, problem, tokens)

    def explain(self, name: str, response: str, problem: Problem) -> list[str]:
        """The lines of the reward's own ``explain(response, problem)``."""
        self._start()
        lines = self._threads.submit(self._ask, "explain", name, response, problem, None).result()
        return [str(line) for line in lines]

    def close(self) -> None:
        """Kills the workers; rows still queued are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.close()
        self._threads.shutdown(wait=True)

    def _start(self) -> None:
        if not self._started:  # all at once, so that they load their rewards side by side
            self._started = True
            for child in self._children:
                child.start()

    def _score(self, name: str, response: str, problem: Problem, tokens: int | None) -> Outcome:
        try:
            with self._turns.shared():
                return unpack_outcome(self._ask("score", name, response, problem, tokens))
        except DeadlineExceeded as error:
            if error.busy_s > 0.8 * self._deadline_s:  # it had the processor: a second try would take as long
                return self._overrun(name, problem, "too_slow") or self._late()
        except ChildDied:
            pass
        except Exception as error:  # a problem that cannot even be sent
            return Outcome(Score(None, "unscorable", "problem_not_json"), f"{type(error).__name__}: {error}")
        try:
            with self._turns.alone():
                return unpack_outcome(self._ask("score", name, response, problem, tokens))
        except DeadlineExceeded:
            return self._overrun(name, problem, "too_slow") or self._late()
        except ChildDied as error:
            overrun = self._overrun(name, problem, "too_large") if error.reason == OUT_OF_MEMORY else None
            return overrun or Outcome(Score(None, "failed", _reason(error.reason)), error.reason)

    def _overrun(self, name: str, problem: Problem, fault: str) -> Outcome | None:
        """The score of a row that ran out of time or memory, if the reward has ``dry_run``: 0 when the response is the
        cause, no score when the problem is. None for a reward without it."""
        key = name, json.dumps(pack_problem(problem), sort_keys=True)
        if key not in self._dry_runs:
            if len(self._dry_runs) >= MAX_DRY_RUNS:
                self._dry_runs.clear()
            self._dry_runs[key] = self._dry_run(name, problem)
        match self._dry_runs[key]:
            case "in time":
                return Outcome(Score(0.0, reason=fault))
            case "too slow":
                return Outcome(Score(None, "unscorable", "problem_too_slow"))
            case "too large":
                return Outcome(Score(None, "unscorable", "problem_too_large"))
        return None

    def _dry_run(self, name: str, problem: Problem) -> DryRun:
        try:
            with self._turns.alone():
                return "in time" if self._ask("dry_run", name, "", problem, None) else "none"
        except DeadlineExceeded:
            return "too slow"
        except ChildDied as error:
            return "too large" if error.reason == OUT_OF_MEMORY else "none"

    def _late(self) -> Outcome:
        detail = (
            f"the reward did not answer within {self._deadline_s:g} s, which is rewards.deadline_s; "
            "make it faster, or give it more seconds there"
        )
        return Outcome(Score(None, "timed_out", "deadline"), detail)

    def _ask(self, what: str, name: str, response: str, problem: Problem, tokens: int | None) -> Any:
        packed = pack_problem(problem)
        self.calls += 1
        child = self._idle.get()
        try:
            return child.call(what, name, response, packed, tokens, deadline_s=self._deadline_s)
        finally:
            self._idle.put(child)


def _reason(death: str) -> str:
    """The reason of a score for the way in which a worker ended."""
    if death == OUT_OF_MEMORY:
        return "out_of_memory"
    if death.startswith("killed by "):
        return f"worker_died:{death.removeprefix('killed by ')}"
    return "worker_cannot_start" if death.startswith("cannot start") else "worker_died"


class _Turns:
    """Lets many rows run at a time, or one row alone. A row that waits to run alone goes before new ones."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._waiting = 0
        self._alone = False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._waiting)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._alone and not self._running)
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
