"""Who works: workers start, get the present weights and prove them, are given work, die and are replaced."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from sailrl.errors import RolloutError, WorkerDied
from sailrl.rollout.member import Member, Prove, W, deadline, keep, whole
from sailrl.types import Prompt

STOP_S = 10.0
"""Given to a worker to end its engine in order, before it is killed."""
LOOK_AGAIN_S = 0.1

T = TypeVar("T")


class Roster(Generic[W]):
    """N workers, kept at N.

    One that dies, fails or misses its deadline is killed, and another hired. That one takes the weights published last
    from their folder and proves them before it gets work. A death that cannot be made good (``replaceable``,
    ``max_restarts``) ends the roster: all who wait for a worker get the error.

    Args:
        hire: makes worker ``number``, which begins to start.
        workers: how many.
        in_flight: responses that one worker samples at the same time.
        start_timeout_s: deadline for a worker to be ready; a replacement also takes the weights within it.
        max_restarts: how often each worker may be replaced between two publishes.
        say: told of every death.
    """

    def __init__(
        self,
        hire: Callable[[int], W],
        *,
        workers: int,
        in_flight: int,
        start_timeout_s: float,
        max_restarts: int = 0,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._hire, self._in_flight, self._say = hire, in_flight, say
        self._start_timeout_s, self._max_restarts = start_timeout_s, max_restarts
        self.members = [Member(number, hire(number)) for number in range(workers)]
        self.restarts = 0
        """Workers replaced since the start."""
        self.replaceable = True
        """False where weights travel without a folder, so that a new worker could not get them, or where it would
        start in memory that it has to share."""
        self.prove: Prove | None = None
        """A replacement must pass it before it gets work."""
        self._weights: tuple[str, int] | None = None
        self._lately: dict[int, int] = {}  # replacements of each worker since the last publish
        self._waiting: deque[tuple[int, asyncio.Future[Member[W]]]] = deque()
        self._failure: BaseException | None = None
        self._joining: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Waits until all are ready. Raises RolloutError with the engine's own words when one is not."""
        members = list(self.members)
        answers = await self._ask(members, "its start", self._start_timeout_s, lambda worker: worker.start())
        for member, answer in zip(members, answers, strict=True):
            if isinstance(answer, BaseException):
                raise RolloutError(
                    f"rollout worker {member.number} does not start: {answer} "
                    f"(deadline: rollout.engine.start_timeout_s, {self._start_timeout_s:g} s)"
                ) from answer
            self._admit(member)

    async def free(self, samples: int) -> Member[W]:
        """The least busy worker with room for so many responses, first come first served; ``give_back`` it.

        Raises:
            RolloutError: a worker died too often.
        """
        self.check()
        turn: asyncio.Future[Member[W]] = asyncio.get_running_loop().create_future()
        self._waiting.append((samples, turn))
        self._deal()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and not turn.exception():  # it was given one in the same moment
                self.give_back(turn.result(), samples)
            raise

    def give_back(self, member: Member[W], samples: int) -> None:
        """Its responses are done, or lost."""
        member.load -= samples
        self._deal()

    async def at(self, number: int) -> Member[W]:
        """Worker ``number``, or its replacement, once it is ready."""
        while True:
            member = self.members[number]
            await member.settled.wait()
            self.check()
            if member.ready:
                return member

    async def all(self, what: str, timeout_s: float, call: Callable[[W], Coroutine[Any, Any, T]]) -> list[T]:
        """What all who are at work answer. One that fails or is late is replaced, and its answer left out."""
        self.check()
        members = [member for member in self.members if member.ready]
        answers: list[T] = []
        for member, answer in zip(members, await self._ask(members, what, timeout_s, call), strict=True):
            if isinstance(answer, WorkerDied):
                self.bury(member, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                answers.append(answer)
        self.check()
        return answers

    async def somebody(self) -> None:
        """Waits until at least one is at work."""
        while not any(member.ready for member in self.members):
            self.check()
            waits = [asyncio.ensure_future(member.settled.wait()) for member in self.members]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def published(self, folder: str, version: int) -> None:
        """From now on a replacement takes these weights, which must stay until the publish after the next."""
        self._weights = (folder, version)
        self._lately.clear()

    def bury(self, member: Member[W], why: WorkerDied) -> None:
        """Kills a worker that is dead to us and hires another; the second report of the same death does nothing."""
        if member not in self.members or self._failure:
            return
        member.ready = False
        member.settled.set()
        keep(self._ending, self._end(member))
        if member.added and member is self.members[-1]:
            self.members.pop()
            return self._say(f"no rollout worker {member.number} could be added: {why}")
        lost = f"rollout worker {member.number} is lost: {why}"
        replaced = self._lately.get(member.number, 0)
        if not self.replaceable:
            self._fail(
                WorkerDied(f"{lost}. Another can take its place only with sync.method: disk and GPUs of its own.")
            )
        elif replaced == self._max_restarts:
            self._fail(
                RolloutError(
                    f"{lost}. It was replaced {replaced} times since the last publish, as often as "
                    "rollout.max_restarts allows. Mend the cause or raise the number, and run the same command to "
                    "resume from the last checkpoint."
                )
            )
        else:
            self._lately[member.number] = replaced + 1
            self.restarts += 1
            self._say(f"{lost}; starting another")
            self.members[member.number] = self._join(Member(member.number, self._hire(member.number)))
        return None

    def resize(self, count: int) -> None:
        """From now on ``count`` workers: new ones join when they are ready and proved; those with the highest numbers
        get no more work, and end when what they have is done. Between seeded waves only."""
        for number in range(len(self.members), count):
            self._say(f"adding rollout worker {number}")
            self.members.append(self._join(Member(number, self._hire(number), added=True)))
        while len(self.members) > count:
            leaving = self.members.pop()
            leaving.ready = False
            leaving.settled.set()
            self._say(f"rollout worker {leaving.number} leaves")
            keep(self._ending, self._retire(leaving))

    def check(self) -> None:
        """Raises what ended the roster."""
        if self._failure:
            raise self._failure

    async def stop(self) -> None:
        """Ends all engines and their processes, also of those who are about to leave."""
        self._fail(RolloutError("the rollout workers were stopped"))
        for task in self._joining:
            task.cancel()
        ends = self._ask(self.members, "its end", STOP_S, lambda worker: worker.stop())
        await asyncio.gather(ends, *self._ending, return_exceptions=True)
        for member in self.members:
            member.worker.kill()

    def _join(self, member: Member[W]) -> Member[W]:
        keep(self._joining, self._make_ready(member))
        return member

    async def _retire(self, member: Member[W]) -> None:
        while member.load and not self._failure:
            await asyncio.sleep(LOOK_AGAIN_S)
        await self._end(member)

    async def _end(self, member: Member[W]) -> None:
        """In order as far as it can: an engine that hangs would outlive a worker that is only killed."""
        try:
            await self._ask([member], "its end", STOP_S, lambda worker: worker.stop())
        finally:
            member.worker.kill()

    async def _make_ready(self, member: Member[W]) -> None:
        """A new worker starts, takes the present weights, proves them, and gets work."""
        try:
            async with deadline("its start", self._start_timeout_s, "rollout.engine.start_timeout_s"):
                await member.worker.start()
                while not await self._is_current(member):
                    await asyncio.sleep(LOOK_AGAIN_S)
        except RolloutError as error:
            self.bury(member, WorkerDied(str(error)))
        except Exception as error:
            self._fail(error)
        else:
            if member not in self.members:  # it was sent away meanwhile
                return
            self._admit(member)
            self._say(f"rollout worker {member.number} is {'at work' if member.added else 'back at work'}")
            member.added = False

    async def _is_current(self, member: Member[W]) -> bool:
        """Gives it the weights published last; True when they are proved, and still the last."""
        weights = self._weights
        if weights is None:  # the first publish will prove all
            return True
        folder, version = weights
        try:
            await member.worker.load_weights(folder, version)
        except WorkerDied:
            if self._weights == weights:
                raise
            return False  # the folder was removed under its hands

        async def ask(prompt: Prompt) -> list[float]:
            return await member.worker.prompt_logprobs(whole(prompt))

        proved = self.prove is None or await self.prove(member.number, version, ask)
        return proved and self._weights == weights

    def _admit(self, member: Member[W]) -> None:
        member.ready = True
        member.settled.set()
        self._deal()

    def _deal(self) -> None:
        while self._waiting:
            samples, turn = self._waiting[0]
            if not turn.done():
                room = [m for m in self.members if m.ready and (not m.load or m.load + samples <= self._in_flight)]
                if not room:
                    return
                member = min(room, key=lambda m: m.load)
                member.load += samples
                turn.set_result(member)
            self._waiting.popleft()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        for member in self.members:
            member.settled.set()
        for _, turn in self._waiting:
            if not turn.done():
                turn.set_exception(self._failure)
        self._waiting.clear()

    @staticmethod
    async def _ask(
        members: Sequence[Member[W]], what: str, timeout_s: float, call: Callable[[W], Coroutine[Any, Any, T]]
    ) -> list[T | BaseException]:
        async def one(worker: W) -> T:
            async with deadline(what, timeout_s):
                return await call(worker)

        return await asyncio.gather(*(one(member.worker) for member in members), return_exceptions=True)
