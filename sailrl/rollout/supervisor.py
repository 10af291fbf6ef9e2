"""Keeps a fixed number of rollout workers running: starts them, tracks what each is doing, and replaces dead ones.

Nothing here imports Ray: unit tests run it with workers in this process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from sailrl.errors import RolloutError, WorkerDied
from sailrl.rollout.engine import Request, Sampling, Stage
from sailrl.types import Completion, Prompt

STOP_S = 10.0
"""Seconds that a worker gets to shut its engine down before it is killed."""
POLL_S = 0.1

Result = tuple[int, list[Completion]]
"""The index of a request, and its completions."""
PromptLogprobs = Callable[[Prompt], Awaitable[list[float]]]
"""Returns [P-1] log-probabilities in nats of a prompt's own tokens, computed by one engine."""
Verify = Callable[[int, int, PromptLogprobs], Awaitable[bool]]
"""``verify(worker, version, prompt_logprobs)`` checks that a worker computes with the weights of ``version``. It raises
WeightSyncError when the worker does not, and returns False while there is nothing to compare with for that version."""


class Worker(Protocol):
    """One rollout worker, in this process or another. Every method raises WorkerDied when the worker has died or
    failed, and another error only where every other worker would raise it too."""

    async def start(self) -> None: ...
    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[Result]: ...
    async def prompt_logprobs(self, request: Request) -> list[float]: ...
    async def load_weights(self, folder: str, version: int) -> None: ...
    async def freeze(self) -> None: ...
    async def thaw(self, version: int) -> None: ...
    async def sleep(self) -> bool: ...
    async def wake(self, stage: Stage) -> None: ...
    async def stop(self) -> None: ...
    def kill(self) -> None:
        """Ends the process at once, in any state; a second call does nothing."""


W = TypeVar("W", bound=Worker)
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class WorkerState(Generic[W]):
    """A worker and what the supervisor knows of it. A replacement has the same number and a state of its own."""

    number: int
    worker: W
    ready: bool = False
    """It has started, has the current weights, and can be given work."""
    load: int = 0
    """Responses that it is sampling now."""
    added: bool = False
    """It was added by ``resize`` and has not been ready yet: the run can do without it."""
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it becomes ready, and when it never will be."""


class Supervisor(Generic[W]):
    """Keeps ``workers`` rollout workers running.

    A worker that dies, fails or misses a deadline is killed and replaced. The replacement loads the weights published
    last from their folder, and is verified, before it gets work. When a worker may not be replaced (``replaceable``,
    ``max_restarts``), the supervisor fails: every call that waits for a worker raises that error.

    Args:
        make_worker: makes the worker of a number; the worker begins to start at once.
        workers: how many to keep running.
        in_flight: responses that one worker samples at the same time.
        start_timeout_s: deadline in seconds for a worker to start; a replacement also loads the weights within it.
        max_restarts: how often each worker may be replaced between two publishes.
        notify: called with one line for every death, replacement and change of the number of workers.
    """

    def __init__(
        self,
        make_worker: Callable[[int], W],
        *,
        workers: int,
        in_flight: int,
        start_timeout_s: float,
        max_restarts: int = 0,
        notify: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._make_worker, self._in_flight, self._notify = make_worker, in_flight, notify
        self._start_timeout_s, self._max_restarts = start_timeout_s, max_restarts
        self.states = [WorkerState(number, make_worker(number)) for number in range(workers)]
        self.restarts = 0
        """Workers replaced since the start."""
        self.replaceable = True
        """False where a new worker could not get the weights, since they travel without a folder, or would start in
        GPU memory that it has to share."""
        self.verify: Verify | None = None
        """A replacement must pass it before it gets work."""
        self._weights: tuple[str, int] | None = None
        self._recent_restarts: dict[int, int] = {}  # by worker number, since the last publish
        self._waiting: deque[tuple[int, asyncio.Future[WorkerState[W]]]] = deque()
        self._failure: BaseException | None = None
        self._starting: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Waits until all workers have started.

        Raises:
            RolloutError: a worker did not; the message contains the engine's own.
        """
        states = list(self.states)
        answers = await self._call(states, "its start", self._start_timeout_s, lambda worker: worker.start())
        for state, answer in zip(states, answers, strict=True):
            if isinstance(answer, BaseException):
                raise RolloutError(
                    f"rollout worker {state.number} does not start: {answer} "
                    f"(deadline: rollout.engine.start_timeout_s, {self._start_timeout_s:g} s)"
                ) from answer
            self._set_ready(state)

    async def acquire(self, samples: int) -> WorkerState[W]:
        """Waits for room for ``samples`` responses and returns the least busy worker. Calls are served in order; each
        must be followed by ``release``.

        Raises:
            RolloutError: the supervisor has failed.
        """
        self.raise_failure()
        turn: asyncio.Future[WorkerState[W]] = asyncio.get_running_loop().create_future()
        self._waiting.append((samples, turn))
        self._assign()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and not turn.exception():  # assigned in the same moment
                self.release(turn.result(), samples)
            raise

    def release(self, state: WorkerState[W], samples: int) -> None:
        """Frees the room of ``samples`` responses, finished or lost."""
        state.load -= samples
        self._assign()

    async def wait_for(self, number: int) -> WorkerState[W]:
        """Waits until worker ``number``, or its replacement, is ready.

        Raises:
            RolloutError: the supervisor has failed.
        """
        while True:
            state = self.states[number]
            await state.decided.wait()
            self.raise_failure()
            if state.ready:
                return state

    async def wait_for_any(self) -> None:
        """Waits until at least one worker is ready. Raises RolloutError when the supervisor has failed."""
        while not any(state.ready for state in self.states):
            self.raise_failure()
            waits = [asyncio.ensure_future(state.decided.wait()) for state in self.states]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def call_all(self, what: str, timeout_s: float, call: Callable[[W], Coroutine[Any, Any, T]]) -> list[T]:
        """Calls every ready worker and returns the answers. A worker that dies or is late is replaced, and its answer
        is left out. Any other error of a worker is raised, and so is RolloutError when the supervisor has failed."""
        self.raise_failure()
        states = [state for state in self.states if state.ready]
        answers: list[T] = []
        for state, answer in zip(states, await self._call(states, what, timeout_s, call), strict=True):
            if isinstance(answer, WorkerDied):
                self.report_death(state, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                answers.append(answer)
        self.raise_failure()
        return answers

    def set_weights(self, folder: str, version: int) -> None:
        """From now on replacements load these weights. The folder must stay until the publish after the next."""
        self._weights = (folder, version)
        self._recent_restarts.clear()

    def report_death(self, state: WorkerState[W], error: WorkerDied) -> None:
        """Kills a worker that has died or failed, and starts its replacement. A second report of the same worker does
        nothing."""
        if state not in self.states or self._failure:
            return
        state.ready = False
        state.decided.set()
        start_task(self._ending, self._end(state))
        if state.added and state is self.states[-1]:
            self.states.pop()
            return self._notify(f"no rollout worker {state.number} could be added: {error}")
        lost = f"rollout worker {state.number} is lost: {error}"
        restarts = self._recent_restarts.get(state.number, 0)
        if not self.replaceable:
            self._fail(
                WorkerDied(f"{lost}. Another can take its place only with sync.method: disk and GPUs of its own.")
            )
        elif restarts == self._max_restarts:
            self._fail(
                RolloutError(
                    f"{lost}. It was replaced {restarts} times since the last publish, as often as "
                    "rollout.max_restarts allows. Remove the cause or raise the number, and run the same command to "
                    "resume from the last checkpoint."
                )
            )
        else:
            self._recent_restarts[state.number] = restarts + 1
            self.restarts += 1
            self._notify(f"{lost}; starting another")
            self.states[state.number] = self._start_worker(state.number)
        return None

    def resize(self, count: int) -> None:
        """Changes the number of workers to ``count``, between seeded waves only. New workers get work once they are
        ready; those with the highest numbers get no more work, and end when they have finished what they have."""
        for number in range(len(self.states), count):
            self._notify(f"adding rollout worker {number}")
            self.states.append(self._start_worker(number, added=True))
        while len(self.states) > count:
            leaving = self.states.pop()
            leaving.ready = False
            leaving.decided.set()
            self._notify(f"rollout worker {leaving.number} leaves")
            start_task(self._ending, self._end_when_idle(leaving))

    def raise_failure(self) -> None:
        """Raises the error for which the supervisor has failed, if it has."""
        if self._failure:
            raise self._failure

    async def stop(self) -> None:
        """Ends all engines and their processes, those of workers that are leaving included."""
        self._fail(RolloutError("the rollout workers were stopped"))
        for task in self._starting:
            task.cancel()
        ends = self._call(self.states, "its end", STOP_S, lambda worker: worker.stop())
        await asyncio.gather(ends, *self._ending, return_exceptions=True)
        for state in self.states:
            state.worker.kill()

    def _start_worker(self, number: int, *, added: bool = False) -> WorkerState[W]:
        state = WorkerState(number, self._make_worker(number), added=added)
        start_task(self._starting, self._make_ready(state))
        return state

    async def _end_when_idle(self, state: WorkerState[W]) -> None:
        while state.load and not self._failure:
            await asyncio.sleep(POLL_S)
        await self._end(state)

    async def _end(self, state: WorkerState[W]) -> None:
        """Stops the engine first, if it answers: killing the worker alone would leave the engine's processes."""
        try:
            await self._call([state], "its end", STOP_S, lambda worker: worker.stop())
        finally:
            state.worker.kill()

    async def _make_ready(self, state: WorkerState[W]) -> None:
        """Starts a new worker, loads and verifies the current weights, and lets it get work."""
        try:
            async with deadline("its start", self._start_timeout_s, "rollout.engine.start_timeout_s"):
                await state.worker.start()
                while not await self._has_current_weights(state):
                    await asyncio.sleep(POLL_S)
        except RolloutError as error:
            self.report_death(state, WorkerDied(str(error)))
        except Exception as error:
            self._fail(error)
        else:
            if state not in self.states:  # removed by resize while it started
                return
            self._set_ready(state)
            self._notify(f"rollout worker {state.number} is {'at work' if state.added else 'back at work'}")
            state.added = False

    async def _has_current_weights(self, state: WorkerState[W]) -> bool:
        """Loads the weights published last; True when they are verified and still the last."""
        weights = self._weights
        if weights is None:  # the first publish will verify all workers
            return True
        folder, version = weights
        try:
            await state.worker.load_weights(folder, version)
        except WorkerDied:
            if self._weights == weights:
                raise
            return False  # the folder was removed while the worker read it

        async def prompt_logprobs(prompt: Prompt) -> list[float]:
            return await state.worker.prompt_logprobs(logprobs_request(prompt))

        verified = self.verify is None or await self.verify(state.number, version, prompt_logprobs)
        return verified and self._weights == weights

    def _set_ready(self, state: WorkerState[W]) -> None:
        state.ready = True
        state.decided.set()
        self._assign()

    def _assign(self) -> None:
        while self._waiting:
            samples, turn = self._waiting[0]
            if not turn.done():
                # An idle worker takes any group, also one that is larger than in_flight.
                room = [s for s in self.states if s.ready and (not s.load or s.load + samples <= self._in_flight)]
                if not room:
                    return
                state = min(room, key=lambda s: s.load)
                state.load += samples
                turn.set_result(state)
            self._waiting.popleft()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        for state in self.states:
            state.decided.set()
        for _, turn in self._waiting:
            if not turn.done():
                turn.set_exception(self._failure)
        self._waiting.clear()

    @staticmethod
    async def _call(
        states: Sequence[WorkerState[W]], what: str, timeout_s: float, call: Callable[[W], Coroutine[Any, Any, T]]
    ) -> list[T | BaseException]:
        async def one(worker: W) -> T:
            async with deadline(what, timeout_s):
                return await call(worker)

        return await asyncio.gather(*(one(state.worker) for state in states), return_exceptions=True)


def logprobs_request(prompt: Prompt) -> Request:
    """The request for the log-probabilities of a prompt's own tokens."""
    return Request(0, prompt.engine_ids, prompt.images, len(prompt.token_ids))


@asynccontextmanager
async def deadline(what: str, timeout_s: float, setting: str = "") -> AsyncIterator[None]:
    """Raises WorkerDied when the block has not ended after ``timeout_s`` seconds.

    Args:
        what: what the worker is doing, for the message.
        setting: the key of the configuration that sets the deadline, for the message.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        named = f" ({setting})" if setting else ""
        raise WorkerDied(f"it did not finish {what} within {timeout_s:g} s{named}") from None


def start_task(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    """Starts ``work`` as a task and keeps it in ``tasks`` until it is done: asyncio itself keeps no reference."""
    task = asyncio.ensure_future(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
