"""Decides whether two readings are the same answer: equal, different, or don't know, with the rule that decided.

Cheap rules first, and cheap rules also decide *different*, so that sympy sees only what nothing else can read. Numbers
are compared by the label rule:

* integers and fractions are exact; tolerance is relative, never absolute;
* a decimal gold accepts an exact value that rounds to it (2.24 and sqrt(5)) and a finer decimal (2.236);
* a percentage is its value (28% = 0.28 = 7/25, whichever side has the sign), and a sign dropped or added beside the
  same figure is forgiven (28% and 28), unless the bare figure could be the ratio itself (0.28 is not 0.28%);
* units may be missing but not different.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import NamedTuple

from rewards import arithmetic, latex
from rewards.normalize import key, text_key
from rewards.quantity import Kind, Parsed, glued
from rewards.structure import comma_parts, read_clean
from rewards.units import same_unit


class Outcome(NamedTuple):
    """``equal`` is None for "don't know"; ``rule`` is one word of a small vocabulary (it becomes a metric)."""

    equal: bool | None
    rule: str


RELATIVE = Fraction(1, 10**6)
"""Tolerance between a decimal and a number that is not whole."""
_FLOAT = 1e-9
"""Tolerance between two values of our own floating-point arithmetic."""
_ORDERED: frozenset[Kind] = frozenset(("tuple", "interval"))
_GROUPS: frozenset[Kind] = frozenset(("list", "set", "tuple", "bracket", "interval", "union", "matrix"))
_VALUES: frozenset[Kind] = frozenset(("number", "expr"))
_MAX_ITEMS = 60
_MONTH = re.compile(r"\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)()")
_CLOCK = re.compile(r"0\d:\d\d")
_NO_SCRIPTS = str.maketrans("", "", "_{} ")
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


def numbers_equal(gold: Parsed, answer: Parsed, precision: int | None = None) -> Outcome:
    """The rule for two numbers, with their units and percent signs."""
    g, a = gold.value, answer.value
    if g is None or a is None:
        return Outcome(None, "number")
    factor = same_unit(gold.unit, answer.unit)
    if factor is None or (gold.percent and _measured(answer)) or (answer.percent and _measured(gold)):
        return Outcome(False, "unit")
    if isinstance(g, complex) or isinstance(a, complex):
        return Outcome(_near(complex(_inexact(g)), complex(_inexact(a))), "number")
    if factor != 1:
        a = a * factor if isinstance(a, Fraction) else a * float(factor)  # factors of units are small
    if not gold.percent and not answer.percent:
        return Outcome(_close(g, a, gold, answer, precision), "number" if factor == 1 else "unit")
    if gold.percent and answer.percent:
        return Outcome(_close(g, a, gold, answer, precision), "percent")
    bare: Fraction | float = a if gold.percent else g
    if not -1 < bare < 1 and _close(g, a, gold, answer, precision):
        return Outcome(True, "percent")
    # Only the figure with the sign is a percentage: compare in hundredths, where the gold's decimals keep their place.
    if gold.percent:
        return Outcome(_close(g, a * 100, gold, answer, precision), "percent")
    return Outcome(_close(g, a / 100, gold, answer, precision), "percent")


def _measured(number: Parsed) -> bool:
    return number.unit is not None and bool(number.unit.dimension or number.unit.words)


def by_points(gold: Parsed, answer: Parsed) -> Outcome:
    """Two expressions by their values at three fixed points (two with positive unknowns, one with negative ones)."""
    if gold.node is None or answer.node is None:
        return Outcome(None, "expression")
    names = latex.symbols(gold.node)
    others = latex.symbols(answer.node)
    same: list[bool | None] = []
    for point in range(3):
        values = arithmetic.assign(names | others, point)
        try:
            g, a = arithmetic.evaluate(gold.node, values), arithmetic.evaluate(answer.node, values)
        except latex.Unreadable:
            same.append(None)
            continue
        verdict = _near(_inexact(g), _inexact(a))
        if verdict is False and point < 2:
            return Outcome(False, "expression")
        same.append(verdict)
    if None in same[:2]:
        return Outcome(None, "expression")
    # Equal for positive unknowns only: a matter of branches (sqrt(x^2) and x), which sympy may judge.
    return Outcome(True if same[2] is not False else None, "expression")


def _against_number(gold: Parsed, answer: Parsed, precision: int | None) -> Outcome:
    if answer.kind == "number":
        outcome = numbers_equal(gold, answer, precision)
        if outcome.equal is False and _decimal_comma(gold, answer):
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
        if _decimal_comma(gold, answer):
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


def _decimal_comma(gold: Parsed, answer: Parsed) -> bool:
    """European notation, accepted only where it can be nothing else: the gold is a decimal and the figures agree."""
    if gold.decimals is None or not gold.plain or answer.kind not in {"list", "number"}:
        return False
    head, comma, tail = answer.text.replace(" ", "\0").partition(",")
    whole = head.replace(".", "")
    if not (comma and tail.isdecimal() and whole.lstrip("-").isdecimal()):
        return False
    if answer.kind == "number" and len(tail) == 3 and whole.lstrip("-") != "0":
        return False
    return Fraction(f"{whole}.{tail}") == gold.value


def _close(
    g: Fraction | float, a: Fraction | float, gold: Parsed, answer: Parsed, precision: int | None
) -> bool | None:
    if precision is not None:
        if isinstance(g, Fraction) and isinstance(a, Fraction):
            return _rounded(g, precision) == _rounded(a, precision)
        return _rounded(_exact(g), precision) == _rounded(_exact(a), precision)
    if isinstance(g, Fraction) and isinstance(a, Fraction):
        if g == a:
            return True
        if answer.decimals is None and not (answer.percent and answer.node is not None and answer.node[0] == "num"):
            # An exact value against a decimal gold: it must round to it.
            return _rounds_to(a, g, gold)
        if (
            gold.decimals is not None
            and gold.plain >= 2
            and (answer.decimals or 0) > gold.decimals
            and _rounds_to(a, g, gold)
        ):
            # A finer decimal than the gold's, when the gold has enough digits to look rounded.
            return abs(g) * Fraction(10) ** gold.decimals >= 10
        if g.denominator == 1 or a.denominator == 1:
            return False
        if gold.decimals == answer.decimals:
            return False  # the same number of places: the figures themselves are the answer
        return abs(g - a) <= RELATIVE * abs(g)
    inexact_g, inexact_a = _inexact(g), _inexact(a)
    near = _near(inexact_g, inexact_a)
    if near is not False or not math.isfinite(abs(inexact_g)) or not math.isfinite(abs(inexact_a)):
        return near
    if isinstance(g, Fraction):
        return _rounds_to(_exact(a), g, gold)
    # An exact irrational gold against a figure: the figure must agree to six digits.
    return answer.decimals is not None and abs(inexact_g - inexact_a) <= 1e-6 * abs(inexact_g)


def _rounds_to(value: Fraction, g: Fraction, gold: Parsed) -> bool:
    return gold.decimals is not None and gold.plain > 0 and g != 0 and _rounded(value, gold.decimals) == g


def _rounded(x: Fraction, places: int) -> Fraction:
    """Half away from zero, as people round."""
    scale = Fraction(10) ** max(-400, min(400, places))
    scaled = abs(x) * scale
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return Fraction(whole if x >= 0 else -whole) / scale


def _exact(x: Fraction | float) -> Fraction:
    """A float as the decimal it prints as: 0.145 stays 0.145."""
    return x if isinstance(x, Fraction) else Fraction(repr(x))


def _inexact(x: latex.Number) -> float | complex:
    if not isinstance(x, Fraction):
        return x
    try:
        return float(x)
    except OverflowError:
        return math.inf if x > 0 else -math.inf


def _near(g: float | complex, a: float | complex) -> bool | None:
    if g == a:
        return True
    big_g, big_a = not math.isfinite(abs(g)), not math.isfinite(abs(a))
    if big_g or big_a:
        return None if big_g and big_a else False
    gap = abs(g - a)
    if gap <= _FLOAT * max(abs(g), abs(a)):
        return True
    # Zero against rounding noise: floating point cannot tell.
    return None if gap < 1e-12 and (abs(g) < 1e-12 or abs(a) < 1e-12) and (g == 0 or a == 0) else False


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
    # The same equation up to a factor: (left - right) of one is a constant times (left - right) of the other.
    names = frozenset().union(*(latex.symbols(node) for node in (gl, gr, al, ar)))
    ratios = []
    for point in range(3):
        values = arithmetic.assign(names, point)
        try:
            dg = _inexact(arithmetic.evaluate(gl, values)) - _inexact(arithmetic.evaluate(gr, values))
            da = _inexact(arithmetic.evaluate(al, values)) - _inexact(arithmetic.evaluate(ar, values))
        except latex.Unreadable:
            return Outcome(None, "equation")
        if not dg or not da:
            return Outcome(None if dg == da else False, "equation")
        ratios.append(da / dg)
    return Outcome(all(_near(ratios[0], r) for r in ratios[1:]), "equation")


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
