"""The gate before anything expensive: what a text would cost to compute, judged from its characters alone."""

from __future__ import annotations

import re

MAX_CHARS = 2000
MAX_DEPTH = 100
MAX_DIGITS = 10_000
_MAX_TERMS = 1000

_NUMBER = re.compile(r"\d+")
_EXPONENT = re.compile(r"(?:\^|\*\*)\s*[{(]?\s*-?\s*(\d+)")
_SUM = re.compile(r"\\(?:sum|prod|bigcup|bigoplus)[^\d^]*(?:_\s*\{[^{}]*\})?\s*\^\s*\{?\s*(\d+)")
_FACTORIAL = re.compile(r"(\d+)\s*[)}]?\s*!")
_CHOOSE = re.compile(r"\\[dt]?binom\s*\{?\s*(\d+)")
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
        or re.search(r"!\s*[)}]*\s*!", text)
        or any(_above(n, 30_000) for n in _CHOOSE.findall(text))
        or any(_above(n, _MAX_TERMS) for n in _SUM.findall(text))
    )


def _above(digits: str, limit: int) -> bool:
    return len(digits) > 9 or int(digits) > limit


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
