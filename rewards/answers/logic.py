"""Formulas of propositional logic. Connectives are operators, never separators of a list: ``p \\land q`` is not
``p \\lor q``. Formulas are equal when they have the same form; only the order in a chain of one commutative connective
does not matter."""

from __future__ import annotations

import re
from collections.abc import Callable

from rewards.answers.separators import outside

Formula = tuple[str, tuple[object, ...]]
"""``("atom", (text,))``, ``("not", (formula,))``, or a connective with its formulas."""

_LEVELS = [
    ("iff", re.compile(r"\\(?:iff|leftrightarrow|Leftrightarrow|longleftrightarrow|Longleftrightarrow)(?![a-zA-Z])")),
    ("implies", re.compile(r"\\(?:to|implies|rightarrow|Rightarrow|longrightarrow|Longrightarrow)(?![a-zA-Z])")),
    ("or", re.compile(r"\\lor(?![a-zA-Z])")),
    ("xor", re.compile(r"\\oplus(?![a-zA-Z])")),
    ("and", re.compile(r"\\land(?![a-zA-Z])")),
    ("minus", re.compile(r"\\setminus(?![a-zA-Z])")),
    ("cup", re.compile(r"\\cup(?![a-zA-Z])")),
    ("cap", re.compile(r"\\cap(?![a-zA-Z])")),
]
_NOT = re.compile(r"\\lnot(?![a-zA-Z])\s*")
_ANY = re.compile(
    r"\\(?:land|lor|lnot|oplus|iff|implies|to|(?:long)?(?:left)?rightarrow|(?:Long)?(?:Left)?[Rr]ightarrow)(?![a-zA-Z])"
)
_WORDS = {"and": r"\land ", "or": r"\lor ", "not": r"\lnot ", "implies": r"\to ", "xor": r"\oplus "}
_WORD = re.compile(rf"(?<![A-Za-z\\])(?:{'|'.join(_WORDS)})(?![A-Za-z])", re.IGNORECASE)
_ORDERED = frozenset(["implies", "minus"])
_SETS = re.compile(r"(?:[A-Z]'?|\\(?:cup|cap|setminus)(?![a-zA-Z])|[() ]|\\overline ?\{[A-Z]\}|\^\{?[cC]\}?)+")
"""Sets that are known by their letters only."""
_MAX_DEPTH = 40


def is_formula(s: str) -> bool:
    """Whether a connective stands in ``s``, in round brackets at most (the arrow under a limit is none)."""
    if "\\" not in s:
        return False
    if _ANY.search(s) is not None:
        return _ANY.search(outside(s, "{}")) is not None
    return ("\\c" in s or "\\setminus" in s) and _SETS.fullmatch(s) is not None and any(p.search(s) for _, p in _LEVELS)


def connected(s: str, split: Callable[[str, re.Pattern[str]], list[str]]) -> tuple[str, list[str]] | None:
    """The outermost connective of ``s`` when it is an "and" or an "or", with what it connects."""
    for name, pattern in _LEVELS:
        pieces = [piece.strip() for piece in split(s, pattern)[::2]]
        if len(pieces) > 1:
            return (name, pieces) if name in {"and", "or"} and all(pieces) else None
    return None


def symbols(s: str) -> str:
    """A formula in words ("p and not q") in symbols."""
    return _WORD.sub(lambda match: _WORDS[match.group().lower()], s)


def formula(s: str, split: Callable[[str, re.Pattern[str]], list[str]], depth: int = 0) -> Formula | None:
    """``s`` as a formula; None when it is none."""
    s = s.strip()
    if not s or depth > _MAX_DEPTH:
        return None
    for name, pattern in _LEVELS:
        pieces = split(s, pattern)[::2]
        if len(pieces) > 1:
            parts = [formula(piece, split, depth + 1) for piece in pieces]
            return None if None in parts else (name, tuple(parts))
    negation = _NOT.match(s)
    if negation is not None:
        inner = formula(s[negation.end() :], split, depth + 1)
        return None if inner is None else ("not", (inner,))
    if s[0] in "([" and s[-1] in ")]" and _ANY.search(s):
        return formula(s[1:-1], split, depth + 1)
    return ("atom", (s,))


def same_form(g: Formula, a: Formula, same: Callable[[str, str], bool]) -> bool:
    """Whether two formulas have the same form; ``same`` compares two atoms."""
    if g[0] != a[0] or len(g[1]) != len(a[1]):
        return False
    if g[0] == "atom":
        return same(str(g[1][0]), str(a[1][0]))
    if g[0] in _ORDERED or g[0] == "not":
        return all(same_form(x, y, same) for x, y in zip(g[1], a[1], strict=True))  # type: ignore[arg-type]
    left = list(a[1])
    for item in g[1]:
        found = next((other for other in left if same_form(item, other, same)), None)  # type: ignore[arg-type]
        if found is None:
            return False
        left.remove(found)
    return True
