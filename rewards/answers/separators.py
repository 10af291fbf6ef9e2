"""Cuts a text at its separators outside of brackets. Pure text."""

from __future__ import annotations

import re

from rewards.answers.quantity import GROUPED

OPENERS, CLOSERS = "([{", ")]}"
SEPARATOR = re.compile(r"[,;]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|和|或|与|及", re.IGNORECASE)
_ENVIRONMENT = re.compile(r"\\begin|\\end(?![a-zA-Z])")
_COMMAS = re.compile(r"[,;]")


def _nonempty(parts: list[str]) -> list[str]:
    """Without the gaps that ", and" leaves between two separators."""
    return [p for p in parts if p.strip()] if len(parts) > 2 else parts


def split_top(s: str, separator: re.Pattern[str]) -> list[str]:
    """``re.split`` with the separators kept, outside of brackets only. An unbalanced text is not split."""
    if separator.search(s) is None:
        return [s]
    depth, depths = 0, []
    for c in s:
        if c in CLOSERS:
            depth -= 1
        depths.append(depth)
        if c in OPENERS:
            depth += 1
    if depth:
        return [s]
    out, at = [], 0
    inside = environments(s) if r"\begin" in s else ()
    for match in separator.finditer(s):
        if depths[match.start()] == 0 and not any(start < match.start() < end for start, end in inside):
            out += [s[at : match.start()], match.group()]
            at = match.end()
    out.append(s[at:])
    return out


def environments(s: str) -> list[tuple[int, int]]:
    """Where each outermost environment starts and ends; one that stays open ends with the text."""
    spans, depth, start = [], 0, 0
    for match in _ENVIRONMENT.finditer(s):
        if match.group() == r"\begin":
            start = start if depth else match.start()
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                spans.append((start, match.end()))
    return [*spans, (start, len(s))] if depth else spans


def outside(s: str, brackets: str = OPENERS + CLOSERS) -> str:
    """``s`` with everything inside brackets blanked out, character by character."""
    openers, closers = brackets[: len(brackets) // 2], brackets[len(brackets) // 2 :]
    if not any(c in s for c in openers):
        return s
    depth, out = 0, []
    for c in s:
        if c in closers:
            depth -= 1
        out.append(c if depth <= 0 else " ")
        if c in openers:
            depth += 1
    return "".join(out)


def encloses(s: str) -> bool:
    """Whether the first bracket of ``s`` is closed by its last."""
    depth = 0
    for i, c in enumerate(s):
        if c in OPENERS or (c == "]" and i == 0):
            depth += 1
        elif c in CLOSERS or (c == "[" and i == len(s) - 1):
            depth -= 1
            if depth == 0 and i < len(s) - 1:
                return False
    return True


def splits(s: str, *, words_too: bool = True) -> list[str]:
    """``s`` cut at its top-level separators (commas, semicolons, "and", "or")."""
    if not words_too:
        return [p.strip() for p in split_top(s, _COMMAS)[::2]]
    if GROUPED.fullmatch(s):
        return [s]
    merged = GROUPED.sub(lambda m: m.group().replace(",", ""), s) if ", " in s or ";" in s else s
    return [p.strip() for p in _nonempty(split_top(merged, SEPARATOR)[::2])]
