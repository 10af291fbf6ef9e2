"""Decides whether two readings are the same answer: equal, different, or don't know, with the rule that decided.

Cheap rules first, and cheap rules also decide *different*, so that sympy sees only what nothing else can read. Tuples
are ordered, sets and lists are not; the ends of intervals matter; matrices are compared by element; dates, times and
codes are text. Single values are the business of ``values``.
"""

from __future__ import annotations

import re

from rewards.answers.expressions import by_points, proportional
from rewards.answers.latex import Node
from rewards.answers.normalize import key, text_key
from rewards.answers.quantity import Kind, Parsed, glued
from rewards.answers.structure import comma_parts, read_clean
from rewards.answers.values import Outcome, decimal_comma, numbers_equal

_ORDERED: frozenset[Kind] = frozenset(("tuple", "interval"))
_GROUPS: frozenset[Kind] = frozenset(("list", "set", "tuple", "bracket", "interval", "union", "matrix"))
_VALUES: frozenset[Kind] = frozenset(("number", "expr"))
_MAX_ITEMS = 60
_MONTH = re.compile(r"\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)()")
_CLOCK = re.compile(r"0\d:\d\d")
_NO_SCRIPTS = str.maketrans("", "", "_{} ")
_NAME = re.compile(r"[A-Z]{2,}")
_WORDED = re.compile(r"(?<![A-Za-z])or(?![A-Za-z])|或")


def compare(gold: Parsed, answer: Parsed, precision: int | None = None) -> Outcome:
    """Whether ``answer`` says what ``gold`` says."""
    if gold.label and answer.label and not _same_label(gold.label, answer.label):
        if gold.kind == "expr" and answer.kind == "expr":  # "y = x" and "x = y" are one line
            return _lines(gold, answer)
        return Outcome(False, "label")
    if gold.kind == answer.kind and key(gold.text) == key(answer.text) and gold.ends == answer.ends:
        return Outcome(True, "normalised")
    if gold.text.isalpha() and len(gold.text) > 1 and gold.text.casefold() == answer.text.casefold():
        return Outcome(True, "text")
    if _NAME.fullmatch(gold.text) and not gold.label and not gold.unit:
        return Outcome(False, "text")  # AB and BA, IV and VI: capital letters side by side are a name
    if gold.kind == "yes_no":
        return Outcome(answer.kind == "yes_no" and answer.ends == gold.ends, "yes_no")
    if gold.kind == "number":
        return _against_number(gold, answer, precision)
    if gold.kind in {"text", "literal"} or answer.kind == "text":
        return _as_text(gold, answer, precision)
    if gold.kind == "expr" and answer.kind in _VALUES:
        if gold.node is None or answer.node is None:
            return Outcome(False, "kind")  # infinity, the empty set
        if answer.unit is not None and (measured := glued(gold)) is not None:
            return numbers_equal(measured, answer, precision)
        return by_points(gold, answer)
    if gold.kind in _GROUPS or answer.kind in _GROUPS:
        return _groups(gold, answer, precision)
    if gold.kind == "relation" and answer.kind == "relation":
        return _relations(gold, answer)
    if gold.kind == "relation" or answer.kind == "relation":
        return _half_relation(gold, answer)
    return Outcome(False, "kind")


def _against_number(gold: Parsed, answer: Parsed, precision: int | None) -> Outcome:
    if answer.kind == "number":
        outcome = numbers_equal(gold, answer, precision)
        if outcome.equal is False and decimal_comma(gold, answer):
            return Outcome(True, "number")
        return outcome
    if answer.kind == "expr":
        if answer.node is None or gold.node is None:
            return Outcome(False, "kind")  # infinity, the empty set
        measured = glued(answer)
        return by_points(gold, answer) if measured is None else numbers_equal(gold, measured, precision)
    if answer.kind == "relation":
        return _stated_sum(gold, answer, precision)
    if answer.kind == "literal":
        if answer.value is not None:
            return numbers_equal(gold, answer, precision)
        return Outcome(False, "literal")
    if answer.kind == "set" and len(answer.items) == 1:
        return compare(gold, answer.items[0], precision)
    if answer.kind in {"tuple", "list", "set", "bracket"}:
        # The same value twice is one answer; "3,14" for 3.14 is a decimal comma; "1,2" may be written for 1,2-lists.
        if decimal_comma(gold, answer):
            return Outcome(True, "number")
        if answer.items and all(compare(gold, item, precision).equal for item in answer.items):
            return Outcome(answer.kind == "list", "number")
        parts = comma_parts(gold)
        if parts and answer.kind != "tuple":
            return _unordered(parts, answer.items, precision, "list")
        return Outcome(False, "number")
    if answer.text.startswith(("<", ">", "\\le", "\\ge", "\\ne")) or answer.text.endswith("+"):
        return Outcome(False, "interval")  # "at least 5" is not 5
    if answer.kind == "text" and _mathematical(answer.text):
        return Outcome(None, "number")
    return Outcome(False, "number")


def _stated_sum(gold: Parsed, answer: Parsed, precision: int | None) -> Outcome:
    """``m + n = 7`` states the value of what has no figures of its own; ``2m = 7`` does not."""
    if answer.ends == "=":
        for side, other in (answer.items, answer.items[::-1]):
            if side.kind == "number" and not any(c.isdigit() for c in other.text):
                return compare(gold, side, precision)
    return Outcome(False, "equation")


def _as_text(gold: Parsed, answer: Parsed, precision: int | None) -> Outcome:
    if text_key(gold.text) == text_key(answer.text):
        return Outcome(True, "text")
    if ("_" in gold.text or "_" in answer.text) and _formula(gold.text) == _formula(answer.text):
        return Outcome(True, "text")  # H_2O
    if gold.kind == "literal":
        return Outcome(_literal_key(gold.text) == _literal_key(answer.text), "literal")
    if gold.kind == "text" and answer.kind == "list" and len(answer.items) == 1:
        return compare(gold, answer.items[0], precision)
    if _mathematical(gold.text) and _mathematical(answer.text):
        return Outcome(None, "text")
    return Outcome(False, "text")


def _literal_key(s: str) -> str:
    """Dates, times, phone numbers: spaces around signs and the spelling of a.m./p.m. do not matter."""
    k = text_key(s).replace("a.m", "am").replace("p.m", "pm").replace(",", " ").rstrip(".")
    if _MONTH.search(k):  # "June 5th, 2020" and "5 Jun 2020"
        words = _ORDINAL.sub(r"\1", _MONTH.sub(r"\1", k)).split()
        return " ".join(sorted(word.rstrip(".") for word in words))
    k = k.replace(" ", "")
    return k[1:] if _CLOCK.match(k) else k


def _formula(s: str) -> str:
    return text_key(s).translate(_NO_SCRIPTS)


def _mathematical(s: str) -> bool:
    """Whether sympy might make sense of it: a LaTeX command or an operator beside a figure or a letter."""
    return "\\" in s or any(c in s for c in "^=+*/") or (any(c.isdigit() for c in s) and "(" in s)


def _groups(gold: Parsed, answer: Parsed, precision: int | None) -> Outcome:
    g, a = gold, answer
    if len(g.items) > _MAX_ITEMS or len(a.items) > _MAX_ITEMS:
        return Outcome(None if len(g.items) == len(a.items) else False, g.kind)
    if g.kind == "matrix" or a.kind == "matrix":
        return _matrices(g, a, precision)
    if g.kind == "union" or a.kind == "union":
        return (
            _unordered(g.items or (g,), a.items or (a,), precision, "interval")
            if g.kind == a.kind
            else Outcome(False, "interval")
        )
    if g.kind == "interval" or a.kind == "interval":
        # "(1, 2)" is a pair or an open interval: the other side says which.
        if {g.kind, a.kind} <= {"interval", "tuple"} or {g.kind, a.kind} == {"interval", "bracket"}:
            if g.ends != a.ends:
                return Outcome(False, "interval")
            return _in_order(g.items, a.items, precision, "interval")
        if g.kind == "interval" and g.ends == "[]" and a.kind in {"list", "set"} and not g.label:
            return _unordered(g.items, a.items, precision, "list")
        if a.kind == "interval" and a.ends == "[]" and g.kind in {"list", "set"} and not a.label:
            return _unordered(g.items, a.items, precision, "list")
        return Outcome(False, "interval")
    if a.kind == "number" and g.items:
        parts = comma_parts(a)
        if parts and len(parts) == len(g.items):
            return (_in_order if g.kind in _ORDERED else _unordered)(g.items, parts, precision, g.kind)
        if len(g.items) == 1 or g.kind in {"list", "set"}:
            same = [compare(item, a, precision).equal for item in g.items]
            return Outcome(all(same), g.kind) if len(same) == 1 else Outcome(False, g.kind)
        return Outcome(False, g.kind)
    if not g.items or not a.items:
        if len(g.items) == 1:
            return compare(g.items[0], a, precision)
        return compare(g, a.items[0], precision) if len(a.items) == 1 else Outcome(False, g.kind if g.items else a.kind)
    if _labelled(g) and _labelled(a):
        return _by_label(g, a, precision)
    if _labelled(g) or _labelled(a):
        return _in_order(_sorted_by_label(g), _sorted_by_label(a), precision, "tuple")
    if g.kind == "tuple" or a.kind == "tuple":
        other = a if g.kind == "tuple" else g
        if other.kind == "set" or any(item.label for item in other.items) or _WORDED.search(other.text):
            return Outcome(False, "tuple")  # a choice of values is no ordered pair
        return _in_order(g.items, a.items, precision, "tuple")
    return _unordered(g.items, a.items, precision, "set" if g.kind == "set" else "list")


def _labelled(group: Parsed) -> bool:
    """Whether every item names its own unknown: ``x = 1, y = 2``."""
    labels = [item.label for item in group.items]
    return all(labels) and len({label.split("_")[0] for label in labels}) == len(labels)


def _sorted_by_label(group: Parsed) -> tuple[Parsed, ...]:
    return tuple(sorted(group.items, key=lambda item: item.label)) if _labelled(group) else group.items


def _by_label(g: Parsed, a: Parsed, precision: int | None) -> Outcome:
    left, right = ({item.label: item for item in group.items} for group in (g, a))
    if left.keys() != right.keys():
        return Outcome(False, "label")
    return _all([compare(left[label], right[label], precision) for label in left], "list")


def _in_order(g: tuple[Parsed, ...], a: tuple[Parsed, ...], precision: int | None, rule: str) -> Outcome:
    if len(g) != len(a):
        return Outcome(False, rule)
    return _all([compare(x, y, precision) for x, y in zip(g, a, strict=True)], rule)


def _all(outcomes: list[Outcome], rule: str) -> Outcome:
    verdicts = [o.equal for o in outcomes]
    return Outcome(False if False in verdicts else None if None in verdicts else True, rule)


def _unordered(g: tuple[Parsed, ...], a: tuple[Parsed, ...], precision: int | None, rule: str) -> Outcome:
    """Every item of one side has its own equal on the other. Greedy is exact here: equality of values is (nearly)
    transitive. A repeated answer counts once."""
    left = list(a)
    if len(g) != len(a):
        left = _distinct(a)
        g = tuple(_distinct(g))
        if len(g) != len(left):
            return Outcome(False, rule)
    unsure = False
    for item in g:
        verdicts = [compare(item, other, precision).equal for other in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None in verdicts:
            unsure = True
        else:
            return Outcome(False, rule)
    return Outcome(None if unsure else True, rule)


def _distinct(items: tuple[Parsed, ...]) -> list[Parsed]:
    out: list[Parsed] = []
    for item in items:
        if not any(compare(other, item).equal for other in out):
            out.append(item)
    return out


def _matrices(g: Parsed, a: Parsed, precision: int | None) -> Outcome:
    if g.kind == a.kind == "matrix":
        if g.shape != a.shape or (g.ends == "det") != (a.ends == "det"):
            return Outcome(False, "matrix")
        return _in_order(g.items, a.items, precision, "matrix")
    vector, other = (g, a) if g.kind == "matrix" else (a, g)
    if 1 in vector.shape and other.kind in {"tuple", "bracket", "interval"}:  # a column vector written as a tuple
        return _in_order(g.items, a.items, precision, "matrix")
    if vector.shape == (1, 1):
        return compare(g.items[0] if g.kind == "matrix" else g, a.items[0] if a.kind == "matrix" else a, precision)
    return Outcome(False, "matrix")


def _same_label(gold: str, answer: str) -> bool:
    """``x`` and ``y`` differ; ``f(x)`` and ``y``, ``Area`` and ``A`` may name the same thing."""
    g, a = _label_key(gold), _label_key(answer)
    if g == a:
        return True
    return not (_short(g) and _short(a))


def _label_key(label: str) -> str:
    label = label.replace("{", "").replace("}", "").replace(" ", "")
    return "y" if len(label) >= 4 and label[1] == "(" and label[0] in "fgh" else label


def _short(label: str) -> bool:
    """A mathematical name, as opposed to a describing word."""
    return len(label.partition("_")[0]) <= 2 or label.startswith("\\")


def _relations(g: Parsed, a: Parsed) -> Outcome:
    if g.ends != a.ends or len(g.items) != 2 or len(a.items) != 2:
        return Outcome(False, "equation")
    if g.ends != "=":
        return _in_order(g.items, a.items, None, "equation")
    nodes = [item.node for item in (*g.items, *a.items)]
    if any(node is None for node in nodes):
        return Outcome(None, "equation")
    gl, gr, al, ar = (node for node in nodes if node is not None)
    return Outcome(proportional(_difference(gl, gr), _difference(al, ar)), "equation")


def _difference(left: Node, right: Node) -> Node:
    return ("sum", (left, ("neg", right)))


def _half_relation(g: Parsed, a: Parsed) -> Outcome:
    """One side is a whole equation, the other a labelled value: ``y = 2x + 1`` and ``2x - y + 1 = 0``."""
    plain, relation = (g, a) if a.kind == "relation" else (a, g)
    if relation.ends != "=" or not plain.label or plain.node is None:
        return Outcome(False, "equation")
    whole = _whole(plain)
    return Outcome(False, "equation") if whole is None else _relations(whole, relation)


def _lines(g: Parsed, a: Parsed) -> Outcome:
    left, right = _whole(g), _whole(a)
    return Outcome(False, "label") if left is None or right is None else _relations(left, right)


def _whole(labelled: Parsed) -> Parsed | None:
    """A labelled value as the equation it was."""
    left = read_clean(labelled.label)
    return None if left.node is None else Parsed("relation", labelled.text, items=(left, labelled), ends="=")
