"""Decides whether two readings are the same answer: equal, different, or don't know, with the rule that decided.

Cheap rules first, and cheap rules also decide *different*, so that sympy sees only what nothing else can read. Tuples
are ordered, sets and lists are not; the ends of intervals matter; matrices are compared by element; dates, times and
codes are text. Single values are the business of ``values``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

from rewards.answers import notation
from rewards.answers.cost import metered
from rewards.answers.expressions import by_points, proportional
from rewards.answers.groups import GROUPS, in_groups, in_order, unordered
from rewards.answers.labels import same_label
from rewards.answers.latex import Node
from rewards.answers.logic import formula, same_form, symbols
from rewards.answers.normalize import key, text_key
from rewards.answers.piecewise import same_pieces
from rewards.answers.quantity import Kind, Parsed, glued, read_expression
from rewards.answers.realset import intersection, real_set
from rewards.answers.sentence import names
from rewards.answers.separators import split_top
from rewards.answers.structure import comma_parts, read_clean
from rewards.answers.values import Equality, decimal_comma, numbers_equal
from rewards.answers.vectors import components, marked

_VALUES: frozenset[Kind] = frozenset(("number", "expr"))
_COUNTED = frozenset("CPA")
_CLOCK = re.compile(r"0\d:\d\d")
_ZH_TIME = re.compile(r"^(\d{1,2})[点时](\d\d)分?$")
_WEEK = re.compile(r"(?:星期|礼拜)(?=[一二三四五六日天]$)")
_ADDS_NOTHING = re.compile(r"(?<=^[左右上下])[边侧面]$|(?<=必要|充分)条件$|(?<=充要)条件$|^互相(?=平行$|垂直$)")
_INDEXED = re.compile(r"(?:^|[A-Za-z)}])\s*_")
"""An index under a letter or a bracket, as in ``H_2O``; under a figure it is the base of a number."""
_NO_SCRIPTS = str.maketrans("", "", "_{} ")
_NAME = re.compile(r"(?=.*[A-Z](?:[A-Z]|$))(?:[A-Z](?:_\{?\d\}?)?){2,}")
"""Capital letters side by side, not all of them with an index: a name or a chemical formula."""


def _size(gold: Parsed, answer: Parsed, precision: int | None = None) -> int:
    return 1 if gold.kind == answer.kind == "number" else len(gold.text) + len(answer.text)


@metered(_size)
def compare(gold: Parsed, answer: Parsed, precision: int | None = None) -> Equality:
    """Whether ``answer`` says what ``gold`` says."""
    if gold.rounded is not None:
        exact = compare(replace(gold, rounded=None), answer, precision)
        return exact if exact.equal else compare(replace(gold.rounded, label=gold.label), answer, precision)
    gold, answer = _as_count(gold, answer), _as_count(answer, gold)
    if gold.label and answer.label and not same_label(gold.label, answer.label):
        if gold.kind == "expr" and answer.kind == "expr":  # "y = x" and "x = y" are one line
            return _lines(gold, answer)
        return Equality(False, "label")
    if gold.condition and answer.condition and _exclude(gold.condition, answer.condition):
        return Equality(False, "condition")
    if gold.kind == answer.kind and key(gold.text) == key(answer.text) and gold.ends == answer.ends:
        return Equality(True, "normalised")
    if gold.text.isalpha() and len(gold.text) > 1 and gold.text.casefold() == answer.text.casefold():
        return Equality(True, "text")
    if _NAME.fullmatch(gold.text) and not gold.label and not gold.unit:
        return Equality(_formula(gold.text) == _formula(answer.text), "text")  # AB is not BA, IV not VI, CO_2 not O_2C
    terms, others = notation.ratio(gold.text), notation.ratio(answer.text)
    if terms is not None and others is not None and not (terms[1] and others[1]):  # two times of day are no ratios
        return Equality(terms[0] == others[0], "ratio")
    if gold.kind == "range" or answer.kind == "range":
        return _ranges(gold, answer, precision)
    if gold.kind == "yes_no":
        return Equality(answer.kind == "yes_no" and answer.ends == gold.ends, "yes_no")
    if gold.kind == "number":
        return _against_number(gold, answer, precision)
    if gold.kind == "expr" and answer.kind == "text" and not gold.text.isalpha():
        outcome = by_points(gold, answer)
        return outcome if outcome.equal is not None else _as_text(gold, answer, precision)
    if gold.kind in {"text", "literal"} or answer.kind == "text":
        return _as_text(gold, answer, precision)
    if gold.kind == "formula" or answer.kind == "formula":
        return Equality(_same_formula(gold.text, answer.text, precision), "formula")
    if gold.kind == "piecewise" or answer.kind == "piecewise":
        return _in_pieces(gold, answer, precision)
    if gold.kind == "expr" and answer.kind in _VALUES:
        if gold.node is None or answer.node is None:
            return Equality(False, "kind")  # infinity, the empty set
        if answer.unit is not None and (measured := glued(gold)) is not None:
            return numbers_equal(measured, answer, precision)
        if gold.label and answer.label and gold.label != answer.label and _lines(gold, answer).equal:
            return Equality(True, "equation")
        if marked(gold) or marked(answer):
            return _vectors(gold, answer, precision)
        return by_points(gold, answer)
    if gold.kind in GROUPS or answer.kind in GROUPS:
        return in_groups(gold, answer, partial(compare, precision=precision))
    if gold.kind == "relation" and answer.kind == "relation":
        return _relations(gold, answer)
    if gold.kind == "relation" or answer.kind == "relation":
        return _half_relation(gold, answer)
    return Equality(False, "kind")


def _ranges(gold: Parsed, answer: Parsed, precision: int | None) -> Equality:
    """``3-5`` and ``3 to 5``; ``[3, 5]``, too; "3 to 4" may also be a ratio, which has a value."""
    spans = [side.kind == "range" or (side.kind == "interval" and side.ends == "[]") for side in (gold, answer)]
    if all(spans):
        return in_order(gold.items, answer.items, partial(compare, precision=precision), "range")
    if "number" in (gold.kind, answer.kind) and gold.value is not None and answer.value is not None:
        return numbers_equal(gold, answer, precision)
    return Equality(False, "range")


def _against_number(gold: Parsed, answer: Parsed, precision: int | None) -> Equality:
    if answer.kind == "number":
        outcome = numbers_equal(gold, answer, precision)
        if outcome.equal is False and decimal_comma(gold, answer):
            return Equality(True, "number")
        return outcome
    if answer.kind == "expr":
        if answer.node is None or gold.node is None:
            return Equality(False, "kind")  # infinity, the empty set
        measured = glued(answer)
        return by_points(gold, answer) if measured is None else numbers_equal(gold, measured, precision)
    if answer.kind == "relation":
        return _stated_sum(gold, answer, precision)
    if answer.kind == "literal":
        if answer.value is not None:
            return numbers_equal(gold, answer, precision)
        return Equality(False, "literal")
    if answer.kind in {"set", "matrix"} and len(answer.items) == 1:
        return compare(gold, answer.items[0], precision)
    if answer.kind in {"tuple", "list", "set", "bracket"}:
        # The same value twice is one answer; "3,14" for 3.14 is a decimal comma; "1,2" may be written for 1,2-lists.
        if decimal_comma(gold, answer):
            return Equality(True, "number")
        if answer.items and all(compare(gold, item, precision).equal for item in answer.items):
            return Equality(answer.kind == "list", "number")
        parts = comma_parts(gold)
        if parts and answer.kind != "tuple":
            return unordered(parts, answer.items, partial(compare, precision=precision), "list")
        return Equality(False, "number")
    if answer.text.startswith(("<", ">", "\\le", "\\ge", "\\ne")) or answer.text.endswith("+"):
        return Equality(False, "interval")  # "at least 5" is not 5
    if answer.kind == "text" and _mathematical(answer.text):
        return Equality(None, "number")
    return Equality(False, "number")


def _as_count(point: Parsed, other: Parsed) -> Parsed:
    """``C(7, 3)``, which is a point beside other points, as the number of combinations beside a value."""
    if point.kind != "tuple" or point.label not in _COUNTED or other.kind not in _VALUES:
        return point
    return read_expression(point.label + point.text) or point


def _stated_sum(gold: Parsed, answer: Parsed, precision: int | None) -> Equality:
    """``m + n = 7`` states the value of what has no figures of its own; ``2m = 7`` does not."""
    if answer.ends == "=" and not gold.label:
        for side, other in (answer.items, answer.items[::-1]):
            if side.kind == "number" and not any(c.isdigit() for c in other.text) and names(other.text):
                return compare(gold, side, precision)
    return Equality(False, "equation")


def _as_text(gold: Parsed, answer: Parsed, precision: int | None) -> Equality:
    if _phrase_key(gold.text) == _phrase_key(answer.text):
        return Equality(True, "text")
    if (_INDEXED.search(gold.text) or _INDEXED.search(answer.text)) and _formula(gold.text) == _formula(answer.text):
        return Equality(True, "text")  # H_2O
    if gold.kind == "literal":
        return Equality(_literal_key(gold.text) == _literal_key(answer.text), "literal")
    if gold.kind == "text" and answer.kind == "list" and len(answer.items) == 1:
        return compare(gold, answer.items[0], precision)
    if _mathematical(gold.text) and (_mathematical(answer.text) or answer.kind in _VALUES):
        return Equality(None, "text")
    return Equality(False, "text")


def _phrase_key(s: str) -> str:
    """A phrase without what adds nothing to it: 星期三 is 周三, 左边 is 左."""
    k = text_key(s)
    return k if k.isascii() else _ADDS_NOTHING.sub("", _WEEK.sub("周", k))


def _literal_key(s: str) -> str | int | tuple[int, int, int]:
    """Dates are compared by day, month and year, times of day by the second, other literals as text: spaces around
    signs do not matter."""
    k = text_key(s).replace("a.m", "am").replace("p.m", "pm").replace(",", " ").rstrip(".")
    if (day := notation.date(k)) is not None:
        return day
    k = _ZH_TIME.sub(r"\1:\2", k.replace(" ", ""))
    if (time := notation.time_of_day(k)) is not None:
        return time
    return k[1:] if _CLOCK.match(k) else k


def _formula(s: str) -> str:
    return text_key(s).translate(_NO_SCRIPTS)


def _mathematical(s: str) -> bool:
    """Whether sympy might make sense of it: a LaTeX command or an operator beside a figure or a letter."""
    if s[-1:] in {"+", "-", "*", "/", "=", "^"}:
        return False  # "18+"
    return "\\" in s or any(c in s for c in "^=+*/") or (any(c.isdigit() for c in s) and "(" in s)


def _same_formula(gold: str, answer: str, precision: int | None) -> bool:
    g, a = formula(symbols(gold), split_top), formula(symbols(answer), split_top)
    if g is None or a is None:
        return False
    return same_form(g, a, lambda x, y: bool(compare(read_clean(x), read_clean(y), precision).equal))


def _in_pieces(gold: Parsed, answer: Parsed, precision: int | None) -> Equality:
    verdict = same_pieces(gold, answer)
    if verdict is None:  # several unknowns, or ends that are no numbers: piece by piece
        if gold.kind != answer.kind or len(gold.items) != len(answer.items):
            return Equality(False, "piecewise")
        g, a = _pairs(gold), _pairs(answer)
        return unordered(g, a, partial(compare, precision=precision), "piecewise")
    return Equality(verdict, "piecewise")


def _pairs(pieces: Parsed) -> tuple[Parsed, ...]:
    items = pieces.items
    return tuple(
        Parsed("tuple", f"{value.text} if {condition.text}", items=(value, condition), ends="()")
        for value, condition in zip(items[::2], items[1::2], strict=True)
    )


def _vectors(gold: Parsed, answer: Parsed, precision: int | None) -> Equality:
    g, a = components(gold), components(answer)
    if g is None or a is None:
        return Equality(False, "tuple")
    length = max(len(g), len(a))
    left, right = components(gold, length) or (), components(answer, length) or ()
    return in_order(left, right, partial(compare, precision=precision), "tuple")


_OPPOSITES = (("even", "odd"), ("positive", "negative"), ("rational", "irrational"), ("正", "负"), ("奇", "偶"))


def _exclude(gold: str, answer: str) -> bool:
    """Whether two qualifiers cannot both hold: ``x < 0`` and ``x > 0``, "n even" and "n odd"."""
    for words in (_OPPOSITES, [pair[::-1] for pair in _OPPOSITES]):
        if any(one in gold and other in answer and one not in answer.replace(other, "") for one, other in words):
            return True
    g, a = real_set(read_clean(gold)), real_set(read_clean(answer))
    return bool(g) and bool(a) and all(piece.point for piece in intersection(g or [], a or []))


def _relations(g: Parsed, a: Parsed) -> Equality:
    if g.ends != a.ends or len(g.items) != 2 or len(a.items) != 2:
        return Equality(False, "equation")
    if g.ends != "=":
        return in_order(g.items, a.items, compare, "equation")
    nodes = [item.node for item in (*g.items, *a.items)]
    if any(node is None for node in nodes):
        return Equality(None, "equation")
    gl, gr, al, ar = (node for node in nodes if node is not None)
    return Equality(proportional(_difference(gl, gr), _difference(al, ar)), "equation")


def _difference(left: Node, right: Node) -> Node:
    return ("sum", (left, ("neg", right)))


def _half_relation(g: Parsed, a: Parsed) -> Equality:
    """One side is a whole equation, the other a labelled value: ``y = 2x + 1`` and ``2x - y + 1 = 0``."""
    plain, relation = (g, a) if a.kind == "relation" else (a, g)
    if relation.ends != "=" or not plain.label or plain.node is None:
        return Equality(False, "equation")
    whole = _whole(plain)
    return Equality(False, "equation") if whole is None else _relations(whole, relation)


def _lines(g: Parsed, a: Parsed) -> Equality:
    left, right = _whole(g), _whole(a)
    return Equality(False, "label") if left is None or right is None else _relations(left, right)


def _whole(labelled: Parsed) -> Parsed | None:
    """A labelled value as the equation it was."""
    left = read_clean(labelled.label)
    return None if left.node is None else Parsed("relation", labelled.text, items=(left, labelled), ends="=")
