"""Limits on the cost of an answer. ``affordable`` decides from the characters alone whether computing it stays small;
``metered`` limits how much text one reading or comparison goes over, however deep the answer is nested."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from rewards.answers.latex import TooLarge

P = ParamSpec("P")
T = TypeVar("T")

MAX_CHARS = 2000
MAX_TEXT = 20_000
"""The longest answer that is compared as text. (``MAX_CHARS`` is the longest that is read as mathematics.)"""
MAX_WORK = 20_000
"""Characters that one reading, or one comparison, may go over in all: ten times the longest answer."""
MAX_LEVELS = 25
"""Readings inside readings: the parts of a list, the answer after "the answer is"."""
MAX_DEPTH = 100
MAX_DIGITS = 10_000
_MAX_TERMS = 1000

_NUMBER = re.compile(r"\d+")
_EXPONENT = re.compile(r"(?:\^|\*\*)\s*[{(]?\s*-?\s*(\d+)")
_SUM = re.compile(r"\\(?:sum|prod|bigcup|bigoplus)[^\d^]*(?:_\s*\{[^{}]*\})?\s*\^\s*\{?\s*(\d+)")
_FACTORIAL = re.compile(r"(\d+)\s*[)}]?\s*!")
_CHOOSE = re.compile(r"\\[dt]?binom\s*\{?\s*(\d+)")
_OF_A_POWER = re.compile(r"\d\s*\^\s*\{?\s*\d+\s*\}?\s*\)\s*!|binom\s*\{\s*\d+\s*\^")
"""A factorial or binomial of a power of figures: ``(10^9)!``."""
_TOWER = re.compile(r"(?:\^|\*\*)\s*[{(]*\s*\d+\s*[{(]*\s*(?:\^|\*\*)\s*[{(]*\s*\d")


def affordable(text: str) -> bool:
    """Whether computing ``text`` stays small: at most 2,000 characters, 100 brackets deep, 10,000 digits in any power,
    factorial or binomial, 1,000 terms in any sum."""
    if len(text) > MAX_CHARS or depth(text) > MAX_DEPTH:
        return False
    if "^" not in text and "!" not in text and "**" not in text and "\\" not in text:
        return True
    longest = max((len(n) for n in _NUMBER.findall(text)), default=0)
    return not (
        any(_above(e, MAX_DIGITS // max(1, longest)) for e in _EXPONENT.findall(text))
        or _TOWER.search(text)
        or any(_above(n, 3249) for n in _FACTORIAL.findall(text))
        or _OF_A_POWER.search(text)
        or re.search(r"!\s*[)}]*\s*!", text)
        or any(_above(n, 30_000) for n in _CHOOSE.findall(text))
        or any(_above(n, _MAX_TERMS) for n in _SUM.findall(text))
    )


def _above(digits: str, limit: int) -> bool:
    return len(digits) > 9 or int(digits) > limit


class _Meter(threading.local):
    work = 0
    levels = 0


_meter = _Meter()


def metered(size: Callable[..., int]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """For functions that read parts of their own text. The outermost call and all calls inside it share one account
    of ``MAX_WORK`` characters, of which each takes ``size(*args)``; beyond it, or ``MAX_LEVELS`` deep, a call raises
    TooLarge. The account depends on the arguments alone, so the same answer always ends in the same way."""

    def wrap(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if not _meter.levels:
                _meter.work = 0
            _meter.work += size(*args, **kwargs)
            if _meter.work > MAX_WORK or _meter.levels >= MAX_LEVELS:
                raise TooLarge
            _meter.levels += 1
            try:
                return function(*args, **kwargs)
            finally:
                _meter.levels -= 1

        return call

    return wrap


def depth(text: str) -> int:
    """How deep brackets are nested."""
    level = deepest = 0
    for c in text:
        if c in "([{":
            level += 1
            deepest = max(deepest, level)
        elif c in ")]}":
            level -= 1
    return deepest
