"""Whether two expressions are the same function of their unknowns, decided by their values at many points.

They are compared wherever both are real (complex only if an ``i`` is written, or if they are never real). One point
where they differ is enough; where only one of them is defined, the other may have the larger domain, unless the
reference has an absolute value or a step, which is there to cover all of it. Names of free constants (``+C``) and of
integer parameters do not matter.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from fractions import Fraction

from rewards.answers import latex
from rewards.answers.applied import functions
from rewards.answers.arithmetic import Point
from rewards.answers.conditions import all_integers
from rewards.answers.latex import Node, Number, TooLarge, Unreadable
from rewards.answers.points import features, points, values
from rewards.answers.quantity import Parsed, expression_node
from rewards.answers.values import Equality, inexact, near

_NOISE = 1e-14
"""Relative error of one floating-point operation, with room for a few."""
_SOME, _MANY = 3, 6
"""Points that must agree where not all are defined; more where one side has an unknown that the other has not."""
_VARIABLES = frozenset("xyztuvwsrpq") | {r"\theta", r"\phi", r"\tau"}
_CONSTANT = re.compile(r"[A-EKM](?:_\d)?|[a-dk]_\d")
_SURELY = re.compile(r"[CK](?:_\d)?|[ck]_\d")
_NAMED_FREELY = re.compile(rf"{_CONSTANT.pattern}|[ck]")
_INTEGER = re.compile(r"[jklmnKMN]")


def by_points(gold: Parsed, answer: Parsed) -> Equality:
    """The rule for two expressions. The answer may be an unread text: then its words are tried as products of the
    reference's letters."""
    g, a = gold.node, answer.node
    if g is None:
        return Equality(None, "expression")
    known = latex.symbols(g) if a is None else frozenset()
    applied = functions(gold.text, answer.text, known)
    try:
        if applied or a is None:
            g, a = expression_node(gold.text, applied, known), expression_node(answer.text, applied, known)
    except Unreadable:
        return Equality(None, "expression")
    verdict = same(g, a)
    if verdict is not True:
        for renamed in _renamed(g, a, gold.integers, answer.integers):
            if same(g, renamed):
                return Equality(True, "expression")
        names = latex.symbols(g) | latex.symbols(a)
        counted = all(name in gold.integers | answer.integers or _INTEGER.fullmatch(name) for name in names)
        if counted and all_integers(gold.condition, answer.condition) and _same_family(g, a):
            return Equality(True, "expression")
    return Equality(verdict, "expression")


def same(g: Node, a: Node) -> bool | None:
    """Whether two trees have the same values; None when that cannot be computed."""
    found = features((g, a))
    total = features((g,)).kinked
    agreeing = missing = 0
    complex_pairs: list[tuple[Number, Number]] = []
    refused = True
    for point in points(found):
        try:
            one, other = values((g, a), point)
            refused = False
        except TooLarge:
            continue
        if one is None:
            continue
        if not found.imaginary and point.left_reals:
            if other is not None:
                complex_pairs.append((one, other))
            missing += other is None or isinstance(other, complex)
            continue
        if other is None:
            missing += 1
            continue
        verdict = _close(one, other, point.lost)
        if verdict is False:
            return False
        agreeing += verdict is True
    if refused:
        raise TooLarge
    if not agreeing and not missing and complex_pairs:
        verdicts = [near(inexact(x), inexact(y)) for x, y in complex_pairs]
        return False if False in verdicts else True if True in verdicts else None
    if total and missing > 1:
        return False
    if not found.names:
        return True if agreeing else None
    if not (found.limited or found.whole):
        return agreeing >= 2 or None
    return agreeing >= (_SOME if latex.symbols(g) == latex.symbols(a) else _MANY) or None


def proportional(g: Node, a: Node) -> bool | None:
    """Whether one tree is a constant times the other (the two sides of one equation, brought to one side)."""
    factor: Number | None = None
    agreeing = 0
    for point in points(features((g, a))):
        one, other = values((g, a), point)
        if one is None or other is None or (not one and not other):
            continue
        if not one or not other:
            if isinstance(one, Fraction) and isinstance(other, Fraction):
                return False
            continue
        if factor is None:
            factor = _ratio(one, other)
            continue
        if _close(one, _times(other, factor), point.lost) is False:
            return False
        agreeing += 1
    return None if agreeing < 2 else True


def _ratio(one: Number, other: Number) -> Number:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one / other
    return inexact(one) / inexact(other)


def _times(x: Number, factor: Number) -> Number:
    if isinstance(x, Fraction) and isinstance(factor, Fraction):
        return x * factor
    return inexact(x) * inexact(factor)


def _close(one: Number, other: Number, lost: float) -> bool | None:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    x, y = inexact(one), inexact(other)
    verdict = near(x, y)
    if verdict is False and abs(x - y) <= _NOISE * lost * max(abs(x), abs(y)):
        return None  # what is left after a cancellation is rounding noise
    return verdict


def _renamed(g: Node, a: Node, whole: frozenset[str], answered: frozenset[str]) -> Iterator[Node]:
    """``a`` with its free constants and parameters named as those of ``g``, in every order."""
    gold_names, names = latex.symbols(g), latex.symbols(a)
    free = _parameters(gold_names, names, whole, answered) or _free_constants(g, gold_names)
    if not free or len(free) > 3:
        return
    theirs = names - (gold_names - free)
    pattern = _INTEGER if whole or answered else _NAMED_FREELY
    if len(theirs) != len(free) or not all(pattern.fullmatch(name) for name in theirs):
        return
    ordered = sorted(free)
    for order in itertools.permutations(sorted(theirs)):
        if list(order) != ordered:
            yield _substitute(a, dict(zip(order, ordered, strict=True)))


def _parameters(
    gold_names: frozenset[str], names: frozenset[str], whole: frozenset[str], answered: frozenset[str]
) -> frozenset[str]:
    """The integer parameters of the reference: those it declares, or those that take the place of declared ones."""
    if whole & gold_names:
        return whole & gold_names
    if answered & names:
        return frozenset(name for name in gold_names - names if _INTEGER.fullmatch(name))
    return frozenset()


def _free_constants(g: Node, names: frozenset[str]) -> frozenset[str]:
    """The constants that a reference leaves free: C, K and the like beside variables, or one c or k added to them."""
    others = names - _VARIABLES
    if others == names:
        return frozenset()
    free = frozenset(name for name in others if _CONSTANT.fullmatch(name))
    if not free:  # "x^2 + c", but not the c of "ax^2 + bx + c"
        terms = g[1] if g[0] == "sum" else ()
        return others if others in ({"c"}, {"k"}) and ("sym", *others) in terms else frozenset()
    return free if any(_SURELY.fullmatch(name) for name in free) or _transcendental(g) else frozenset()


def _transcendental(node: Node) -> bool:
    """Whether an unknown stands in an exponent or in a function: the solution of a differential equation."""
    kind = node[0]
    if kind == "call" or (kind == "pow" and latex.symbols(node[2])):
        return bool(latex.symbols(node))
    if kind in {"num", "sym", "const"}:
        return False
    return any(_transcendental(child) for child in (node[1] if kind == "sum" else node[1:]))


def _substitute(node: Node, names: dict[str, str]) -> Node:
    kind = node[0]
    if kind == "sym":
        return ("sym", names.get(node[1], node[1]))
    if kind in {"num", "const"}:
        return node
    if kind == "sum":
        return ("sum", tuple(_substitute(child, names) for child in node[1]))
    if kind == "call":
        return ("call", node[1], tuple(_substitute(child, names) for child in node[2]))
    return (kind, *(_substitute(child, names) for child in node[1:]))


def _same_family(g: Node, a: Node) -> bool:
    """``a + kb`` and ``a' + nb'`` for all integers k and n: the same set of numbers."""
    line, other = _line(g), _line(a)
    if line is None or other is None:
        return False
    (start, step), (other_start, other_step) = line, other
    if not step or near(abs(step), abs(other_step)) is not True:
        return False
    turns = (other_start - start) / step
    return abs(turns - round(turns)) <= 1e-9 * max(1.0, abs(turns))


def _line(node: Node) -> tuple[float, float] | None:
    """Start and step of an expression that is linear in its only unknown."""
    names = latex.symbols(node)
    if len(names) != 1:
        return None
    (name,) = names
    found = []
    for k in (0, 1, 2, 7):
        value = values((node,), Point({name: Fraction(k)}))[0]
        if value is None or isinstance(value, complex):
            return None
        found.append(float(inexact(value).real))
    step = found[1] - found[0]
    straight = all(near(found[0] + k * step, v) is not False for k, v in ((2, found[2]), (7, found[3])))
    return (found[0], step) if straight else None
