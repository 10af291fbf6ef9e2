"""Names of quantities: ``x`` in ``x = 5``, ``x_1`` and ``x_2`` for the solutions of one equation."""

from __future__ import annotations

import re
from dataclasses import replace

from rewards.answers.quantity import Parsed
from rewards.answers.sentence import names

_LABEL = re.compile(
    r"(?:\\(?:angle|triangle|overline|widehat|hat|bar|vec|mathbb|operatorname|Delta|alpha|beta|theta|gamma|lambda|mu|"
    r"sigma|omega|phi|rho|pi|ell|eta|tau|epsilon|nabla|cdot)\b|[A-Za-z\u4e00-\u9fff|]|[_'{}()|,. ]|(?<=[_({])[\w+-]|"
    r"\d(?=[})']))++"
)
UNKNOWN = re.compile(r"(?:[A-Za-z]|\\[a-z]+)(?:_(?:\w|\{\w+\}))?'*")
_OF_A_FUNCTION = re.compile(
    r"[A-Za-z] ?\^ ?\{? ?-1 ?\}? ?\([A-Za-z]\)"
    r"|\\frac ?\{(?:d|\\partial)(?:\^\{?\d\}?)? ?[A-Za-z]?\} ?\{(?:d|\\partial) ?[A-Za-z](?:\^\{?\d\}?)?\}"
)
_APPLIED = re.compile(r"([A-Za-z])\((?:[A-Z]|\d+)\)")
_UNKNOWNS = frozenset("xyztuwrknmspq") | {r"\lambda", r"\theta", r"\alpha", r"\beta"}
"""Letters whose numbered forms are the solutions of one equation; those of others (a_1, v_1, R_1) are quantities."""


def is_label(s: str) -> bool:
    """Whether ``s`` names a quantity (x, x_1, f(x), AB, \\angle A, "the area") and computes nothing."""
    if UNKNOWN.fullmatch(s) or _OF_A_FUNCTION.fullmatch(s):
        return True
    if len(s) > 60 or s.count("(") != s.count(")") or not _LABEL.fullmatch(s) or not names(s):
        return False
    return re.fullmatch(r"[A-Za-z]\([A-Za-z](?:,[A-Za-z])*\)", s) is not None or not re.fullmatch(r"[a-z]{2,3}", s)


def same_label(gold: str, answer: str) -> bool:
    """``x`` and ``y`` differ; ``f(x)`` and ``y``, ``Area`` and ``A`` may name the same thing."""
    g, a = label_key(gold), label_key(answer)
    if g == a or (g.isupper() and g == a[::-1]):  # AB and BA are one segment
        return True
    one, other = _APPLIED.fullmatch(g), _APPLIED.fullmatch(a)
    if one is not None and other is not None and one.group(1) == other.group(1):
        return False  # f(2) and f(3), P(A) and P(B)
    short, long = sorted((g, a), key=len)
    if short in _UNKNOWNS and long.partition("_")[0] == short and long.partition("_")[2].isdecimal():
        return True  # x_1 is a solution for x
    return not (_short(g) and _short(a))


def label_key(label: str) -> str:
    """A label as it is compared: no spaces or braces, and ``f(x)`` is the same as ``y``."""
    label = label.replace("{", "").replace("}", "").replace(" ", "")
    return "y" if len(label) >= 4 and label[1] == "(" and label[0] in "fgh" and label[2].isalpha() else label


def _short(label: str) -> bool:
    """A mathematical name, as opposed to a describing word."""
    return len(label.partition("_")[0]) <= 2 or label.startswith("\\")


def labelled(group: Parsed) -> bool:
    """Whether every item names its own unknown: ``x = 1, y = 2``."""
    labels = [label_key(item.label) for item in group.items]
    return all(labels) and len(set(labels)) == len(labels) and not numbered(group)


def numbered(group: Parsed) -> bool:
    """Whether the items are numbered solutions: ``x_1 = 7, x_2 = -3``."""
    labels = [label_key(item.label).partition("_") for item in group.items]
    bases = {base for base, _, _ in labels}
    return len(bases) == 1 and bases <= _UNKNOWNS and all(number.isdecimal() for _, _, number in labels)


def sorted_by_label(group: Parsed) -> tuple[Parsed, ...]:
    """The items by label where each has one, else as they are."""
    if labelled(group) or numbered(group):
        return tuple(sorted(group.items, key=lambda item: label_key(item.label)))
    return group.items


def as_solutions(group: Parsed) -> Parsed:
    """Numbered solutions as solutions for one unknown, whose order does not matter."""
    if not numbered(group):
        return group
    base = label_key(group.items[0].label).partition("_")[0]
    return replace(group, items=tuple(replace(item, label=base) for item in group.items))
