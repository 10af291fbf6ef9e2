"""Calls one reward on one response, in whichever process or loop it runs, and makes sure a ``Score`` comes out."""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from sailrl.types import Score


class Outcome(NamedTuple):
    """A score and, for people, what went wrong in words (reasons are metric names and stay short)."""

    score: Score
    detail: str = ""


def takes_tokens(function: Callable[..., Any]) -> bool:
    """Whether a reward asks for the length of the response in tokens."""
    try:
        return "response_tokens" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in callables have no signature
        return False


def is_async(reward: Any) -> bool:
    """Whether calling a reward gives a coroutine."""
    return inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(getattr(reward, "__call__", None))  # noqa: B004


def call(function: Callable[..., Any], *args: Any, **tokens: int | None) -> Outcome | None:
    """Calls a reward or a combining rule; an exception is a ``failed`` score. None stays None: only ``fast`` may
    return it."""
    try:
        result = function(*args, **tokens)
    except (Exception, SystemExit) as error:  # quit() in a user's code ends that response, not the run
        return raised(error)
    return None if result is None else checked(result)


def checked(result: Any) -> Outcome:
    """What a reward returned, as a Score: a bare number is one, None says that the response cannot be scored."""
    if isinstance(result, Score):
        if result.value is None or type(result.value) is float:
            return Outcome(result)
        return Outcome(Score(float(result.value), result.status, result.reason))  # numpy's numbers, booleans
    if result is None:
        return Outcome(Score(None, "unscorable", "returned_none"))
    value = _number(result)
    if value is None:
        kind = type(result).__name__
        detail = f"the reward returned {kind}. {_RETURN}"
        return Outcome(Score(None, "failed", f"not_a_score:{kind}"), detail)
    if not math.isfinite(value):
        return Outcome(Score(None, "failed", "not_finite"), f"the reward returned {value}. {_RETURN}")
    return Outcome(Score(value))


_RETURN = "Return a finite number, Score(value, reason='why'), or None where the response cannot be scored."


def _number(result: Any) -> float | None:
    """A number of Python, numpy or torch as a float; None for anything else."""
    if isinstance(result, str | bytes) or not hasattr(result, "__float__"):
        return None
    try:
        return float(result)
    except (TypeError, ValueError, OverflowError):  # an array of several numbers
        return None


def raised(error: BaseException) -> Outcome:
    """The failed score for an exception of a reward, with its message and its place in the code."""
    try:
        text = str(error)[:500]
    except Exception:
        text = "(its message cannot be printed)"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    kind = type(error).__name__
    return Outcome(Score(None, "failed", f"raised:{kind}"), f"{kind}: {text}{place}")
