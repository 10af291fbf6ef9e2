"""Compares answers that hold several values: tuples in order, sets and lists in any order, matrices by element, parts
by their labels, sets of real numbers by what is in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from rewards.answers.labels import as_solutions, label_key, labelled, numbered, sorted_by_label
from rewards.answers.parts import places
from rewards.answers.quantity import Kind, Parsed
from rewards.answers.realset import real_set, same_set
from rewards.answers.structure import comma_parts
from rewards.answers.values import Equality
from rewards.answers.vectors import components

Same = Callable[[Parsed, Parsed], Equality]
"""How two of the values are compared."""

GROUPS: frozenset[Kind] = frozenset(
    ("list", "set", "tuple", "bracket", "interval", "union", "meet", "minus", "matrix", "parts")
)
_ORDERED: frozenset[Kind] = frozenset(("tuple", "interval"))
_POINTS: frozenset[Kind] = frozenset(("tuple", "matrix"))
_CONDITIONS: frozenset[Kind] = frozenset(("union", "meet", "minus"))
_NAMED = frozenset((r"\emptyset", r"\mathbb{R}"))
_MAX_ITEMS = 60
_OR, _AND = re.compile(r"(?<![A-Za-z])or(?![A-Za-z])|或"), re.compile(r"(?<![A-Za-z])and(?![A-Za-z])|和|与|及")


def in_groups(g: Parsed, a: Parsed, same: Same) -> Equality:
    """Whether two answers are equal, at least one of which is of a kind in GROUPS."""
    if len(g.items) > _MAX_ITEMS or len(a.items) > _MAX_ITEMS:
        return Equality(None if len(g.items) == len(a.items) else False, g.kind)
    if any(map(_unsolved, a.items)) and not any(map(_unsolved, g.items)):
        return Equality(False, "equation")
    if g.kind == "parts" or a.kind == "parts":
        return _in_parts(g, a, same)
    if {g.kind, a.kind} & _CONDITIONS or {g.text, a.text} & _NAMED or r"\ne" in (g.ends, a.ends):
        return _sets(g, a, same)
    if (g.node is not None or a.node is not None) and (g.kind in _POINTS or a.kind in _POINTS):
        group, single = (g, a) if a.node is not None else (a, g)
        vector = components(single, len(group.items))
        if vector is not None:
            pair = (g.items, vector) if group is g else (vector, a.items)
            return in_order(*pair, same, "tuple")
    if g.kind == "matrix" or a.kind == "matrix":
        return _matrices(g, a, same)
    if g.kind == "interval" or a.kind == "interval":
        return _intervals(g, a, same)
    if a.kind == "number" and g.items:
        parts = comma_parts(a)
        if parts and len(parts) == len(g.items):
            return (in_order if g.kind in _ORDERED else unordered)(g.items, parts, same, g.kind)
        distinct = _distinct(as_solutions(g).items, same)  # a double solution counts once
        return same(distinct[0], a) if len(distinct) == 1 and g.kind != "tuple" else Equality(False, g.kind)
    if not g.items or not a.items:
        if len(g.items) == 1:
            return same(g.items[0], a)
        return same(g, a.items[0]) if len(a.items) == 1 else Equality(False, g.kind if g.items else a.kind)
    return _several(g, a, same)


def _unsolved(item: Parsed) -> bool:
    return item.kind == "relation" and item.ends == "="


def _several(g: Parsed, a: Parsed, same: Same) -> Equality:
    """Lists, sets and tuples."""
    if labelled(g) and labelled(a):
        return _by_label(g, a, same)
    if (labelled(g) and numbered(a)) or (labelled(a) and numbered(g)):
        return Equality(False, "label")
    if labelled(g) or labelled(a) or ("tuple" in (g.kind, a.kind) and (numbered(g) or numbered(a))):
        bare = a if labelled(g) else g
        if not labelled(bare) and (bare.kind == "set" or _OR.search(bare.text)):
            return Equality(False, "tuple")  # "3 or 5" is not x = 3, y = 5
        return in_order(sorted_by_label(g), sorted_by_label(a), same, "tuple")
    if "bracket" in (g.kind, a.kind) and {g.ends, a.ends} & {"[)", "(]"}:
        return Equality(False, "bracket")
    g, a = as_solutions(g), as_solutions(a)
    named = all(item.kind in {"text", "expr"} for item in (*g.items, *a.items))
    if named and any(_OR.search(x.text) and _AND.search(y.text) for x, y in ((g, a), (a, g))):
        return Equality(False, "list")  # "Paris and Rome" is not "Paris or Rome"; solutions may be joined by either
    if g.kind == "tuple" or a.kind == "tuple":
        other = a if g.kind == "tuple" else g
        if other.kind == "set" or any(item.label for item in other.items) or _OR.search(other.text):
            return Equality(False, "tuple")  # a choice of values is no ordered pair
        return in_order(g.items, a.items, same, "tuple")
    return unordered(g.items, a.items, same, "set" if g.kind == "set" else "list")


def _in_parts(g: Parsed, a: Parsed, same: Same) -> Equality:
    """Parts by their labels; by their order where one side has none, or labels of another kind."""
    if not g.items or len(g.items) != len(a.items) or {g.kind, a.kind} - {"parts", "list", "tuple"}:
        return Equality(False, "parts")
    left, right = _parts(g), _parts(a)
    if {label for label, _ in left} == {label for label, _ in right}:
        pairs = [(item, dict(right)[label]) for label, item in left]
    else:
        names = [label for label, _ in (right if g.kind == "parts" else left)]
        if any(names) and places(names) is None:
            return Equality(False, "label")
        pairs = [(item, other) for (_, item), (_, other) in zip(left, right, strict=True)]
    return _all([same(item, other) for item, other in pairs], "parts")


def _parts(group: Parsed) -> list[tuple[str, Parsed]]:
    """Labels and values; of ``A = 7, B = 2`` the labels are the unknowns."""
    if group.kind == "parts":
        return list(zip(group.ends.casefold().split(), group.items, strict=True))
    return [(item.label.casefold(), replace(item, label="")) for item in group.items]


def _sets(g: Parsed, a: Parsed, same: Same) -> Equality:
    left, right = real_set(g), real_set(a)
    if left is not None and right is not None:
        return Equality(same_set(left, right, lambda x, y: bool(same(x, y).equal)), "interval")
    if g.kind == a.kind and g.kind != "relation" and g.ends == a.ends:
        return unordered(g.items, a.items, same, "interval")
    return Equality(False, "interval")


def _intervals(g: Parsed, a: Parsed, same: Same) -> Equality:
    # "(1, 2)" is a pair or an open interval: the other side says which.
    if {g.kind, a.kind} <= {"interval", "tuple"} or {g.kind, a.kind} == {"interval", "bracket"}:
        if g.ends != a.ends:
            return Equality(False, "interval")
        return in_order(g.items, a.items, same, "interval")
    if g.kind == "interval" and g.ends == "[]" and a.kind in {"list", "set"} and not g.label:
        return unordered(g.items, a.items, same, "list")
    if a.kind == "interval" and a.ends == "[]" and g.kind in {"list", "set"} and not a.label:
        return unordered(g.items, a.items, same, "list")
    return Equality(False, "interval")


def _by_label(g: Parsed, a: Parsed, same: Same) -> Equality:
    left, right = ({label_key(item.label): item for item in group.items} for group in (g, a))
    if left.keys() != right.keys():
        return Equality(False, "label")
    return _all([same(left[label], right[label]) for label in left], "list")


def in_order(g: tuple[Parsed, ...], a: tuple[Parsed, ...], same: Same, rule: str) -> Equality:
    """Whether two lists are equal item by item."""
    if len(g) != len(a):
        return Equality(False, rule)
    return _all([same(x, y) for x, y in zip(g, a, strict=True)], rule)


def _all(outcomes: list[Equality], rule: str) -> Equality:
    verdicts = [o.equal for o in outcomes]
    return Equality(False if False in verdicts else None if None in verdicts else True, rule)


def unordered(g: tuple[Parsed, ...], a: tuple[Parsed, ...], same: Same, rule: str) -> Equality:
    """Every item of one side has its own equal on the other. Greedy is exact here: equality of values is (nearly)
    transitive. A repeated answer counts once."""
    left = list(a)
    if len(g) != len(a):
        left = _distinct(a, same)
        g = tuple(_distinct(g, same))
        if len(g) != len(left):
            return Equality(False, rule)
    unsure = False
    for item in g:
        maybe = False
        for index, other in enumerate(left):
            verdict = same(item, other).equal
            if verdict:
                del left[index]
                break
            maybe = maybe or verdict is None
        else:
            if not maybe:
                return Equality(False, rule)
            unsure = True
    return Equality(None if unsure else True, rule)


def _distinct(items: tuple[Parsed, ...], same: Same) -> list[Parsed]:
    out: list[Parsed] = []
    for item in items:
        if not any(same(other, item).equal for other in out):
            out.append(item)
    return out


def _matrices(g: Parsed, a: Parsed, same: Same) -> Equality:
    if g.kind == a.kind == "matrix":
        if g.shape != a.shape or (g.ends == "det") != (a.ends == "det"):
            return Equality(False, "matrix")
        return in_order(g.items, a.items, same, "matrix")
    vector, other = (g, a) if g.kind == "matrix" else (a, g)
    if 1 in vector.shape and other.ends in {"()", "[]"}:  # a column vector written as a tuple
        return in_order(g.items, a.items, same, "matrix")
    if vector.shape == (1, 1):
        return same(g.items[0] if g.kind == "matrix" else g, a.items[0] if a.kind == "matrix" else a)
    return Equality(False, "matrix")
