"""Repetition penalty: the share of n-grams that a response has already used. A penalty in (-1, 0]."""

from __future__ import annotations

import re

from sailrl.errors import ConfigError
from sailrl.types import Problem, Score

_INLINE_CHARS = 20_000
# Han, kana and their extensions are written without spaces, so each character is a word of its own.
_NO_SPACES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\s{_NO_SPACES}]+")


class Repetition:
    """``-(1 - unique n-grams / all n-grams)``: 0 when no ``n`` words in a row come twice, towards -1 for a loop.

    Words are maximal runs without white space, in lower case; Chinese and Japanese characters are one word each.
    Punctuation stays with its word, so ``x + 1`` and ``x - 1`` differ. Linear in the response. (The definition that
    Open-R1 made common, which splits on white space.)
    """

    def __init__(self, n: int = 3) -> None:
        """Args:
        n: length of the n-grams in words. Short n-grams repeat in any honest proof; 3 and more rarely do.
        """
        if n < 1:
            raise ConfigError(f"repetition: n is {n}, but an n-gram has at least 1 word. Use n=3.")
        self.n = n

    def __call__(self, response: str, problem: Problem) -> Score:
        if not isinstance(response, str):
            return Score(None, "unscorable", "response_not_text")
        words = _WORD.findall(response.lower())
        total = len(words) - self.n + 1
        if total < 1:
            return Score(0.0, reason="too_short")
        unique = len(set(zip(*(words[start:] for start in range(self.n)), strict=False)))
        if unique == total:
            return Score(0.0, reason="no_repetition")
        return Score(unique / total - 1.0, reason="repetition")

    def fast(self, response: str, problem: Problem) -> Score | None:
        """The same score for responses of ordinary length. A word costs about a microsecond: None for longer ones."""
        return None if isinstance(response, str) and len(response) > _INLINE_CHARS else self(response, problem)
