"""Which letters of two expressions are functions: ``f(x)`` is application, ``x(x+1)`` is a product.

A letter is a function when it stands before a bracket that no product would need (one argument without a sum, a
nested call, a comma), and the reference never uses it on its own. For the usual names of functions a sum will do, for
others two different sums (``T(n-1) + T(n-2)``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from rewards.answers.tokens import CONSTANTS, GREEK, Token, Unreadable, tokenize

_CALL = re.compile(r"[A-Za-z}']\s*(?:\^\s*\{?\s*-\s*1\s*\}?\s*)?[(\[]")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_USUAL = frozenset(["f", "g", "h", "F", "G", "H", r"\phi", r"\psi", r"\Phi", r"\Psi"])


@dataclass(frozen=True, slots=True)
class Letters:
    """How one text uses its letters; a letter may be in several sets."""

    called: frozenset[str] = frozenset()
    """Before a bracket that only a function has."""
    perhaps: frozenset[str] = frozenset()
    """Before a sum in brackets: a usual name of a function, or any name before two different sums."""
    alone: frozenset[str] = frozenset()
    """Not before a bracket."""
    listed: frozenset[str] = frozenset()
    """Before several arguments."""


_NONE = Letters()


def functions(gold: str, answer: str, known: frozenset[str] = frozenset()) -> frozenset[str]:
    """The letters that ``gold`` and ``answer`` both have to read as functions. A run of ``known`` letters is a
    product."""
    if _CALL.search(gold) is None and _CALL.search(answer) is None:
        return frozenset()
    g, a = letters(gold, known), letters(answer, known)
    return (g.called | a.called) - g.alone | (g.perhaps | a.perhaps) - g.alone - a.alone


@lru_cache(maxsize=1024)
def letters(text: str, known: frozenset[str] = frozenset()) -> Letters:
    """How ``text`` uses its letters. Linear; nothing when it cannot be read."""
    if len(text) > 2000:
        return _NONE
    try:
        return in_tokens(tokenize(text, known))
    except Unreadable:
        return _NONE


def in_tokens(tokens: list[Token]) -> Letters:
    """What the letters of an answer stand for: which are called, and which may be, by what is written around each."""
    closing = _closing(tokens)
    called: set[str] = set()
    perhaps: set[str] = set()
    alone: set[str] = set()
    listed: set[str] = set()
    before: dict[str, str] = {}
    at = 0
    while at < len(tokens):
        kind, name = tokens[at]
        if not (kind == "var" or (kind == "cmd" and name[1:] in GREEK)) or name in CONSTANTS:
            at += 1
            continue
        at += 1
        if at + 1 < len(tokens) and tokens[at][1] == "_":
            end = closing.get(at + 1, at + 1) + 1
            name += "_" + "".join(value for _, value in tokens[at + 1 : end] if value not in "{}")
            at = end
        while at < len(tokens) and tokens[at][1] == "'":
            name, at = name + "'", at + 1
        bracket = past_inverse(tokens, at)
        close = closing.get(bracket) if bracket < len(tokens) and tokens[bracket][1] in "([" else None
        if close is None:
            alone.add(name)
            continue
        if bracket > at:
            name += "^-1"
        inside = _outer(tokens, bracket, close, closing)
        if "," in inside:
            listed.add(name)
            called.add(name)
        elif close == bracket + 2 or _one_call(tokens, bracket, close, closing):
            called.add(name)
        elif name[0] in _USUAL or name in _USUAL or bracket > at:
            (perhaps if set(inside[1:]) & {"+", "-"} else called).add(name)
        elif before.setdefault(name, argument := "".join(inside)) != argument:
            perhaps.add(name)
    return Letters(frozenset(called), frozenset(perhaps), frozenset(alone), frozenset(listed))


def _closing(tokens: list[Token]) -> dict[int, int]:
    """Where each bracket closes; none of them when the brackets do not match."""
    out: dict[int, int] = {}
    stack: list[int] = []
    for i, (_, value) in enumerate(tokens):
        if value in _PAIRS:
            stack.append(i)
        elif value in {")", "}", "]"}:
            if not stack or _PAIRS[tokens[stack[-1]][1]] != value:
                return {}
            out[stack.pop()] = i
    return out


def past_inverse(tokens: list[Token], at: int) -> int:
    """The index after ``^{-1}`` when that stands at ``at``, else ``at``."""
    values = [value for _, value in tokens[at : at + 5]]
    for inverse in (["^", "{", "-", "1", "}"], ["^", "-", "1"]):
        if values[: len(inverse)] == inverse:
            return at + len(inverse)
    return at


def _outer(tokens: list[Token], start: int, end: int, closing: dict[int, int]) -> list[str]:
    """The tokens between two brackets that stand in no bracket of their own."""
    out, at = [], start + 1
    while at < end:
        out.append(tokens[at][1])
        at = closing.get(at, at) + 1
    return out


def _one_call(tokens: list[Token], start: int, end: int, closing: dict[int, int]) -> bool:
    """Whether the bracket holds one letter with its own bracket and nothing else: ``u(v(x))``."""
    return tokens[start + 1][0] == "var" and start + 2 in closing and closing[start + 2] == end - 1
