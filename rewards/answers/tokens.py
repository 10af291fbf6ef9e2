"""Cuts LaTeX and plain mathematical notation into tokens. A text with anything in it that is no known mathematics is
refused whole, so that no number is ever picked out of words."""

from __future__ import annotations

import re

Token = tuple[str, str]
"""``("num" | "cmd" | "var" | "fn" | "op", text)``; a run of letters is a function's name or one token per letter."""


class Unreadable(Exception):
    """The text is not in this calculator's language, or has no finite value here."""


_LEX = re.compile(
    r"(?P<num>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+(?![A-Za-z0-9]))?)|(?P<cmd>\\[A-Za-z]+|\\.)|(?P<word>[A-Za-z]+)"
    r"|(?P<op>\*\*|[-+*/^_(){}\[\]|!%=,:'])|(?P<space>\s+)"
)
FUNCTIONS = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "exp", "ln", "log", "lg", "abs", "sqrt", "floor", "ceil", "gcd", "lcm", "max", "min", "arccot", "sgn",
})  # fmt: skip
_OPAQUE = "erf erfc det tr rank dim arg deg Re Im Li li Ei Si Ci sign adj vol Var Cov Pr ker ord trace nullity"
OPAQUE = frozenset(_OPAQUE.split())
"""Functions known by name only: two calls are equal when their arguments are."""
CONSTANTS = frozenset({"pi", "e", "i"})
_GREEK = """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega
    Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar aleph
"""
GREEK = frozenset(_GREEK.split())
_STRUCTURE = frozenset(
    ["\\frac", "\\binom", "\\dbinom", "\\tbinom", "\\cdot", "\\times", "\\circ", "\\infty", "\\lfloor", "\\rfloor",
     "\\lceil", "\\rceil", "\\{", "\\}", "\\ivec", "\\jvec", "\\kvec"]
)  # fmt: skip
_ANALYSIS = frozenset(
    ["\\int", "\\iint", "\\oint", "\\sum", "\\prod", "\\lim", "\\to", "\\ldots", "\\cdots", "\\dots", "\\,", "\\;"]
)  # fmt: skip
_BOUNDED = frozenset(["\\sum", "\\prod", "\\lim"])
"""What needs to say over what it goes."""
_WORDS = {name: name for name in (*FUNCTIONS, "pi", *GREEK)} | {"cdot": "*", "times": "*"}


def plain_products(words: str) -> bool:
    """Whether a run of letters reads as a product of variables (``xy``, ``abc``) rather than as a word."""
    if len(words) <= 2:
        return True
    if len(words) > 3:
        return False
    mixed = words[1:] != words[1:].lower() and not words.isupper()  # nRT
    return mixed or (list(words) == sorted(words) and not set(words) & set("eiou"))


def tokenize(text: str, letters: frozenset[str] = frozenset()) -> list[Token]:
    """The tokens of ``text``, spaces dropped. A run of ``letters`` is a product, whatever word it may spell. Raises
    Unreadable."""
    out: list[Token] = []
    at = 0
    for match in _LEX.finditer(text):
        if match.start() != at:
            raise Unreadable
        at = match.end()
        kind, value = match.lastgroup or "", match.group()
        if kind == "word":
            out += [("var", c) for c in value] if letters and letters.issuperset(value) else _letters(value)
        elif kind == "cmd" and (value[1:] in FUNCTIONS or value[1:] in OPAQUE):
            out.append(("fn", value[1:]))
        elif kind != "space":
            out.append((kind, "^" if value == "**" else value))
    if at != len(text):
        raise Unreadable
    return out


def known(text: str) -> bool:
    """Whether every symbol of ``text`` is known mathematics, sums and integrals included, and no figure stands beside
    another value as in prose ("(A) 9"). Only such a text may be handed to sympy."""
    try:
        tokens = tokenize(text)
    except Unreadable:
        return False
    for i, (kind, value) in enumerate(tokens):
        if kind == "cmd" and not (
            value[1:] in GREEK or value[1:] in CONSTANTS or value in _STRUCTURE or value in _ANALYSIS
        ):
            return False
        if value in _BOUNDED and (i + 1 == len(tokens) or tokens[i + 1][1] != "_"):
            return False
        beside = i and (tokens[i - 1][0] in {"num", "var"} or tokens[i - 1][1] == ")")
        if kind == "num" and beside and not (i > 1 and tokens[i - 2][1] in {"^", "_"}):
            return False
    return True


def _letters(word: str) -> list[Token]:
    if word in OPAQUE:
        return [("fn", word)]
    lower = word if word in _WORDS else word.lower()
    if lower in FUNCTIONS:
        return [("fn", lower)]
    if lower in _WORDS and (len(word) > 2 or lower == "pi"):
        return [("cmd", "\\" + lower)]
    if len(word) > 2:
        for name in ("sqrt", "pi", "theta", "sin", "cos", "tan", "ln", "log"):
            if name in word and len(word) - len(name) <= 1:
                head, _, tail = word.partition(name)
                token = ("fn", name) if name in FUNCTIONS else ("cmd", "\\" + name)
                return [*(("var", c) for c in head), token, *(("var", c) for c in tail)]
    if not plain_products(word):
        raise Unreadable
    return [("var", c) for c in word]
