"""Rewards for the scorer's tests: honest ones, and every way in which a user's reward can go wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any

from sailrl import killable
from sailrl.types import Problem, Score


class Equal:
    """Right when the response is the answer; in a worker."""

    def __call__(self, response: str, problem: Problem) -> Score:
        return Score(float(response == problem.answer), reason="equal" if response == problem.answer else "different")

    def explain(self, response: str, problem: Problem) -> list[str]:
        return [f"response {response!r}", f"answer {problem.answer!r}", f"inside {killable.inside()}"]


class FastEqual(Equal):
    """The same, answered inline unless the response says 'slow'."""

    def fast(self, response: str, problem: Problem) -> Score | None:
        return None if "slow" in response else self(response, problem)


class Where:
    """1 in a worker, 0 in the caller's process."""

    def __call__(self, response: str, problem: Problem) -> Score:
        return Score(float(killable.inside()))

    def fast(self, response: str, problem: Problem) -> Score | None:
        return Score(float(killable.inside())) if response.startswith("fast") else None


class Tokens:
    def __call__(self, response: str, problem: Problem, *, response_tokens: int | None = None) -> Score:
        return Score(None, "unscorable", "no_tokens") if response_tokens is None else Score(float(response_tokens))


class Misbehaves:
    """Does what the response says."""

    def __init__(self, sleep_s: float = 600.0) -> None:
        self.sleep_s = sleep_s

    def __call__(self, response: str, problem: Problem) -> Any:
        match response:
            case "sleep":
                time.sleep(self.sleep_s)
            case "loop":
                while True:
                    pass
            case "power":
                return Score(float(len(bin(9 ** (9**9)))))
            case "bloat":
                return Score(float(len(bytearray(3 << 30))))
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                sys.exit(1)
            case "raise":
                raise KeyError("no such key")
            case "odd error":
                raise _OddError
            case "print":
                print("\x00\x00\x00\x02{}" * 1000, flush=True)
                os.write(1, b"more")
            case "list":
                return [1.0]
            case "none":
                return None
        return Score(1.0, reason="fine")


class TellsWhoIsToBlame(Misbehaves):
    """The reference answer does what it says in every response's place."""

    def dry_run(self, problem: Problem) -> None:
        self(str(problem.answer), problem)


class _OddError(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class FastRaises:
    def __call__(self, response: str, problem: Problem) -> Score:
        return Score(1.0)

    def fast(self, response: str, problem: Problem) -> Score | None:
        raise ZeroDivisionError("in fast")


class Judge:
    """Async: sleeps for the answer's number of seconds and gives 1."""

    def __init__(self, deadline_s: float = 5.0) -> None:
        self.deadline_s = deadline_s
        self.closed = False
        self.running = self.most_at_once = 0

    async def __call__(self, response: str, problem: Problem) -> Score:
        if response == "raise":
            raise ConnectionError("server is down")
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        await asyncio.sleep(float(problem.answer or 0))
        self.running -= 1
        return Score(1.0, reason="verdict")

    def metrics(self) -> dict[str, float]:
        return {"calls": 7.0}

    async def aclose(self) -> None:
        self.closed = True


class EvenLength:
    """Right when the response has an even number of characters; half of the points are for having written anything."""

    def __call__(self, response: str, problem: Problem) -> Score:
        return Score(1.0 - len(response) % 2 / 2, reason="odd" if len(response) % 2 else "even")

    fast = __call__


class MetricsRaise(EvenLength):
    def metrics(self) -> dict[str, float]:
        return {"fine": 1.0, "bad": float("x")}


class WarmsUp:
    """Slow to load and quick to answer."""

    def warm_up(self) -> None:
        time.sleep(0.5)
        self.warm = True

    def __call__(self, response: str, problem: Problem) -> Score:
        return Score(float(self.warm))


class Echo:
    """Puts what arrived into the reason, to see what crosses the pipe."""

    def __call__(self, response: str, problem: Problem) -> Score:
        return Score(1.0, reason=repr((response, problem.answer, problem.images, problem.meta, problem.precision)))


class NotCallable:
    pass


def plain_function(response: str, problem: Problem, scale: float = 1.0) -> Score:
    return Score(scale * len(response))


def sum_of_all(scores: Any, weights: Any) -> Score:
    return Score(sum(score.value or 0.0 for score in scores.values()))


def combine_raises_on_two(scores: Any, weights: Any) -> Score:
    if scores["a"].value == 2.0:
        raise ValueError("two")
    return Score(scores["a"].value)


def combine_to_float(scores: Any, weights: Any) -> float:
    return 1.0


def needs_part_b(scores: Any, weights: Any) -> Score:
    return scores["b"]
