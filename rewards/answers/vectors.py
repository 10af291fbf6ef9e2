"""Vectors written with unit vectors: ``7\\mathbf{i} + 2\\mathbf{j}`` is (7, 2)."""

from __future__ import annotations

from fractions import Fraction

from rewards.answers import latex
from rewards.answers.latex import Node
from rewards.answers.quantity import Parsed, from_node

_AXES = {r"\ivec": 0, "i": 0, r"\jvec": 1, "j": 1, r"\kvec": 2, "k": 2}
_SCALAR = -1
_ZERO: Node = ("num", Fraction(0))


def marked(parsed: Parsed) -> bool:
    """Whether the text shows its unit vectors as vectors."""
    return r"\ivec" in parsed.text or r"\jvec" in parsed.text or r"\kvec" in parsed.text


def components(parsed: Parsed, length: int = 0) -> tuple[Parsed, ...] | None:
    """The components, zeros added up to ``length``; None when it is no vector. Plain letters count as unit vectors when
    an i stands beside a j or a k."""
    if parsed.node is None:
        return None
    if not marked(parsed):
        names = latex.symbols(parsed.node)
        if not names & {"j", "k"} or "i" not in parsed.text:
            return None
    found = _linear(parsed.node)
    if found is None or _SCALAR in found or not found:
        return None
    return tuple(from_node(found.get(axis, _ZERO)) for axis in range(max(length, max(found) + 1, 2)))


def _linear(node: Node) -> dict[int, Node] | None:
    """The factor of each unit vector, and what has none; None when a unit vector stands where only a number may."""
    kind = node[0]
    if kind in {"sym", "const"} and node[1] in _AXES:
        return {_AXES[node[1]]: ("num", Fraction(1))}
    if kind in {"num", "sym", "const"}:
        return {_SCALAR: node}
    if kind == "neg":
        inner = _linear(node[1])
        return None if inner is None else {axis: ("neg", factor) for axis, factor in inner.items()}
    if kind == "sum":
        total: dict[int, Node] = {}
        for child in node[1]:
            term = _linear(child)
            if term is None:
                return None
            for axis, factor in term.items():
                total[axis] = ("sum", (total[axis], factor)) if axis in total else factor
        return total
    children = [_linear(child) for child in (node[2] if kind == "call" else node[1:])]
    if None in children:
        return None
    scalar = [child is not None and child.keys() == {_SCALAR} for child in children]
    if all(scalar):
        return {_SCALAR: node}
    if kind == "mul" and any(scalar):
        number, vector = (0, 1) if scalar[0] else (1, 0)
        return {axis: ("mul", node[1 + number], factor) for axis, factor in (children[vector] or {}).items()}
    if kind == "div" and scalar[1]:
        return {axis: ("div", factor, node[2]) for axis, factor in (children[0] or {}).items()}
    return None
