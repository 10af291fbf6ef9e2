"""Reads LaTeX and plain mathematical notation into a tree: tokens and recursive descent.

It never calls eval and never builds a sympy object. What it cannot read it refuses with ``Unreadable`` ("don't know");
what would cost too much with ``TooLarge``. ``arithmetic`` computes the tree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

from rewards.answers.applied import in_tokens, past_inverse
from rewards.answers.tokens import CONSTANTS, FUNCTIONS, GREEK, OPAQUE, Token, tokenize
from rewards.answers.tokens import Unreadable as Unreadable

Number: TypeAlias = Fraction | float | complex
Node: TypeAlias = tuple[Any, ...]
"""``("num", Fraction)``, ``("sym", name)``, ``("const", name)``, ``("sum", nodes)``, ``("mul" | "div" | "pow", a, b)``,
``("neg", a)`` or ``("call", function name, nodes)``; the name of a function of unknown values starts with "@"."""

UNIT_VECTORS = ("\\ivec", "\\jvec", "\\kvec")
_SCRIPTS = re.compile(r"_(s|\{s([+-]s)?\})\^(s|\{s([+-]s)?\})|\^(s|\{s([+-]s)?\})_(s|\{s([+-]s)?\})")
"""Two short scripts, by the kinds of their tokens."""
_COUNTS = {"C": "binomial", "P": "permutations", "A": "permutations"}
MAX_DEPTH = 60
MAX_HEIGHT = 150
"""Of a tree: a product of n factors is n high. ``arithmetic`` walks it by recursion."""
MAX_DIGITS = 10_000
"""Digits of any exact number: a power, factorial or binomial beyond it is not computed."""


class TooLarge(Exception):
    """Reading or computing it would cost too much."""


_OPEN = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_MIXED = re.compile(
    r"(?<![\d.^_}A-Za-z)\]!])(?<!\\sqrt )(\d+)\s*\\frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))"
    r"|(?<![\d.^_}A-Za-z)\]/*!])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])"
)
_CROSS = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)|(?<=\d)\s*[xX]\s*(?=\d)|(?<=[\d)])\s+[xX]\s+(?=[\d(])")


_SHORT_WORDS = frozenset(
    ["am", "an", "as", "at", "be", "by", "do", "go", "he", "hi", "if", "in", "is", "it", "me", "my", "no", "of", "oh",
     "ok", "on", "or", "ox", "pm", "so", "to", "up", "us", "we"]
)  # fmt: skip


_DERIVATIVE = re.compile(r"\\frac\s*\{\s*d[^{}]{0,12}(?:\{\d\}\s*)?[^{}]{0,3}\}\s*\{\s*d\s*[A-Za-z\\]")
_CHOICES = re.compile(r"(?:\{\})?[_^]\{?(\d+|[a-z])\}?([CP])_\{?(\d+|[a-z])\}?|(?<![\w.])(\d+)([CP])(\d+)(?![\w.])")


@lru_cache(maxsize=4096)
def parse(text: str, functions: frozenset[str] = frozenset(), letters: frozenset[str] = frozenset()) -> Node:
    """The tree of a cleaned expression. A letter of ``functions`` before a bracket is applied to what is in it; any
    other letter is multiplied with it. A run of ``letters`` is a product. Raises Unreadable or TooLarge."""
    if len(text) > 2000:
        raise TooLarge
    if text.lower() in _SHORT_WORDS:
        raise Unreadable
    if "{d" in text and _DERIVATIVE.search(text):
        raise Unreadable  # an operator, no fraction
    text = _CROSS.sub(r"\\times ", _MIXED.sub(_mixed, text))
    if "C" in text or "P" in text:
        text = _CHOICES.sub(_prefixed, text)
    tokens = tokenize(text, letters)
    if "," in text:
        functions |= in_tokens(tokens).listed
    parser = _Parser(tokens, functions)
    node = parser.sum(0)
    if parser.peek() is not None or _height(node) > MAX_HEIGHT:
        raise Unreadable
    return node


def _mixed(match: re.Match[str]) -> str:
    whole, top, top1, bottom, bottom1, whole2, top2, bottom2 = match.groups()
    if whole is not None:
        return f"({whole}+{top or top1}/{bottom or bottom1})"
    return f"({whole2}+{top2}/{bottom2})"


def _prefixed(match: re.Match[str]) -> str:
    """``{}_7C_3`` and ``7C3`` as ``C(7,3)``."""
    n, name, k, n2, name2, k2 = match.groups()
    return f"{name or name2}({n or n2},{k or k2})"


_DEGREE: Node = ("div", ("const", "pi"), ("num", Fraction(180)))


class _Parser:
    """sum := product (± product)*; product := unary (operator unary | unary)*; unary := -unary | power;
    power := postfix (^ unary)?; postfix := atom (! | % | ' | ^\\circ)*."""

    def __init__(self, tokens: list[Token], functions: frozenset[str] = frozenset()) -> None:
        self.tokens = tokens
        self.functions = functions
        self.at = 0
        self.in_function = 0
        self.in_bars = False

    def peek(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def value(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, value: str) -> bool:
        if self.value() == value:
            self.at += 1
            return True
        return False

    def need(self, value: str) -> None:
        if not self.take(value):
            raise Unreadable

    def sum(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise Unreadable
        terms = [self.product(depth)]
        while (sign := self.value()) in {"+", "-"}:
            self.at += 1
            term = self.product(depth)
            terms.append(("neg", term) if sign == "-" else term)
        return terms[0] if len(terms) == 1 else ("sum", tuple(terms))

    def product(self, depth: int) -> Node:
        left = self.unary(depth)
        while True:
            value = self.value()
            if value in {"*", "\\cdot", "\\times"}:
                self.at += 1
                left = ("mul", left, self.unary(depth))
            elif value in {"/", "\\div"}:
                self.at += 1
                left = ("div", left, self.unary(depth))
            elif self._starts_atom():
                before = self.tokens[self.at - 1]
                closed = before[1] == ")" and not (left[0] == "call" and left[1] in FUNCTIONS)
                if self.tokens[self.at][0] == "num" and (before[0] in {"num", "var"} or closed):
                    raise Unreadable  # "2 3", "H2O" and "(a) 7" are no products, "ln(3)3^x" is one
                left = ("mul", left, self.power(depth))
            else:
                return left

    def _starts_atom(self) -> bool:
        token = self.peek()
        if token is None:
            return False
        kind, value = token
        if kind in {"num", "var", "fn"}:
            return True
        if kind == "cmd":
            return value not in {r"\}", r"\rfloor", r"\rceil", r"\cdot", r"\times", r"\div"}
        return value in {"(", "[", "{"} or (value == "|" and not self.in_bars)

    def unary(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise Unreadable
        if self.take("-"):
            return ("neg", self.unary(depth + 1))
        if self.take("+"):
            return self.unary(depth + 1)
        return self.power(depth)

    def power(self, depth: int) -> Node:
        base = self.postfix(depth)
        if self.value() == "^" and self._degree():
            self.at += 2
            # Degrees count inside a trigonometric function only; elsewhere they are a unit like any other.
            return ("mul", base, _DEGREE) if self.in_function else base
        if self.value() == "^":
            self.at += 1
            return ("pow", base, self._script(depth))
        return base

    def _degree(self) -> bool:
        return self.at + 1 < len(self.tokens) and self.tokens[self.at + 1][1] == "\\circ"

    def _script(self, depth: int) -> Node:
        """What stands after ``^``: a group, a signed figure, one letter or command, or another power."""
        if self.take("{"):
            node = self.sum(depth + 1)
            self.need("}")
            if self.value() == "^":
                self.at += 1
                return ("pow", node, self._script(depth + 1))
            return node
        return self.unary(depth + 1)

    def postfix(self, depth: int) -> Node:
        node = self.atom(depth)
        while True:
            if self.take("!"):
                node = ("call", "factorial", (node,))
            elif self.take("%"):
                node = ("div", node, ("num", Fraction(100)))
            else:
                return node

    def atom(self, depth: int) -> Node:
        token = self.peek()
        if token is None or depth > MAX_DEPTH:
            raise Unreadable
        self.at += 1
        kind, value = token
        if kind == "num":
            return ("num", decimal(value))
        if kind == "var":
            return self._symbol(value, depth)
        if kind == "fn":
            return self._call(value, depth)
        if value in _OPEN and value != r"\{":
            node = self._group(_OPEN[value], depth)
            if value in {r"\lfloor", r"\lceil"}:
                return ("call", "floor" if value == r"\lfloor" else "ceil", (node,))
            return node
        if value == "|":
            return ("call", "abs", (self._group("|", depth),))
        if value == r"\frac":
            top = self._argument(depth)
            return ("div", top, self._argument(depth))
        if value in {r"\binom", r"\dbinom", r"\tbinom"}:
            top = self._argument(depth)
            return ("call", "binomial", (top, self._argument(depth)))
        if kind == "cmd" and value[1:] in CONSTANTS:
            return ("const", value[1:])
        if kind == "cmd" and (value[1:] in GREEK or value in UNIT_VECTORS):
            return self._symbol(value, depth)
        raise Unreadable

    def _group(self, closing: str, depth: int) -> Node:
        outer, self.in_bars = self.in_bars, closing == "|"
        node = self.sum(depth + 1)
        self.need(closing)
        self.in_bars = outer
        return node

    def _arguments(self, depth: int) -> tuple[Node, ...]:
        """What stands in the bracket that opens here, cut at its commas."""
        closing = _OPEN[self.value()]
        self.at += 1
        outer, self.in_bars = self.in_bars, False
        args = [self.sum(depth + 1)]
        while self.take(","):
            args.append(self.sum(depth + 1))
        self.need(closing)
        self.in_bars = outer
        return tuple(args)

    def _symbol(self, name: str, depth: int) -> Node:
        if name in {"C", "A", "P"} and (counted := self._counted(name, depth)) is not None:
            return counted
        if self.take("_"):
            name += "_" + self._subscript()
        while self.take("'"):
            name += "'"
            if self.at < len(self.tokens) and self.tokens[self.at][0] == "var":
                raise Unreadable  # "it's"
        if name + "^-1" in self.functions and (after := past_inverse(self.tokens, self.at)) > self.at:
            name, self.at = name + "^-1", after
        if name in self.functions and self.value() in {"(", "["}:
            args = self._arguments(depth)
            if name in _COUNTS and len(args) == 2:
                return ("call", _COUNTS[name], args)
            return ("call", "@" + name, args)
        return ("const", name) if name in CONSTANTS else ("sym", name)

    def _counted(self, name: str, depth: int) -> Node | None:
        """``C_7^3``, ``C^3_7`` and ``A_5^2``: combinations and permutations. ``C_1^2`` is a constant's square."""
        ahead = self.tokens[self.at : self.at + 14]
        if _SCRIPTS.match("".join("s" if kind in {"num", "var"} else value for kind, value in ahead)) is None:
            return None
        start = self.at
        scripts: dict[str, Node] = {}
        for _ in range(2):
            self.at += 1
            sign = self.tokens[self.at - 1][1]
            scripts[sign] = self._group("}", depth) if self.take("{") else self.atom(depth + 1)
        low, high = scripts["_"], scripts["^"]
        if low[0] != "num" or high[0] != "num" or low[1] >= high[1]:
            return ("call", _COUNTS[name], (low, high))
        self.at = start
        return None

    def _subscript(self) -> str:
        if not self.take("{"):
            token = self.peek()
            if token is None:
                raise Unreadable
            self.at += 1
            return token[1]
        parts = []
        while not self.take("}"):
            token = self.peek()
            if token is None:
                raise Unreadable
            parts.append(token[1])
            self.at += 1
        return "".join(parts)

    def _argument(self, depth: int) -> Node:
        """One argument of a command: a group, or the next figure or letter (``\\frac12``, ``\\sqrt5``)."""
        if self.take("{"):
            node = self.sum(depth + 1)
            self.need("}")
            return node
        token = self.peek()
        if token is not None and token[0] == "num" and token[1].isdecimal() and len(token[1]) > 1:
            # TeX takes one digit; what follows stays for the next argument.
            self.tokens[self.at] = ("num", token[1][1:])
            return ("num", Fraction(int(token[1][0])))
        return self.atom(depth + 1)

    def _call(self, name: str, depth: int) -> Node:
        if name == "sqrt":
            index: Node = ("num", Fraction(2))
            if self.take("["):
                index = self.sum(depth + 1)
                self.need("]")
            token = self.peek()
            whole = token is not None and token[0] == "num"  # "sqrt 12" and "√12" mean the whole figure
            node = self.atom(depth + 1) if whole else self._argument(depth)
            return ("call", "root", (node, index))
        base: Node | None = None
        exponent: Node | None = None
        for _ in range(2):
            if self.take("_"):
                base = self._argument(depth)
            elif self.value() == "^":
                self.at += 1
                exponent = self._script(depth)
        self.in_function += 1
        if self.value() in {"(", "[", r"\{"}:
            args = list(self._arguments(depth))
        else:
            args = [self._bare(depth)]
        self.in_function -= 1
        if exponent == ("neg", ("num", Fraction(1))) and "arc" + name in FUNCTIONS:
            return ("call", "arc" + name, tuple(args))
        if base is not None:
            if name != "log":
                raise Unreadable
            args.append(base)
        node = ("call", "@" + name if name in OPAQUE else name, tuple(args))
        return node if exponent is None else ("pow", node, exponent)

    def _bare(self, depth: int) -> Node:
        """The argument of ``sin 2x`` or ``ln 3``: factors side by side, up to the next function or operator."""
        node = self.unary(depth + 1)
        while self._starts_atom() and self.tokens[self.at][0] in {"num", "var"}:
            node = ("mul", node, self.power(depth + 1))
        return node


def decimal(text: str) -> Fraction:
    """An exact number from ``12``, ``1.5``, ``1.6e-19``. Raises TooLarge for absurd exponents."""
    if len(text) > 2000:
        raise TooLarge
    if text.isdecimal():
        return Fraction(int(text))
    _, _, exponent = text.lower().partition("e")
    if exponent and (len(exponent) > 6 or abs(int(exponent)) > MAX_DIGITS):
        raise TooLarge
    return Fraction(text)


def symbols(node: Node) -> frozenset[str]:
    """Names of the unknowns in ``node``."""
    names, todo = set[str](), [node]
    while todo:
        node = todo.pop()
        if node[0] == "sym":
            names.add(node[1])
        todo += _children(node)
    return frozenset(names)


def _height(node: Node) -> int:
    height, level = 0, [node]
    while level and height <= MAX_HEIGHT:
        height, level = height + 1, [child for above in level for child in _children(above)]
    return height


def _children(node: Node) -> Sequence[Node]:
    kind = node[0]
    if kind in {"num", "sym", "const"}:
        return ()
    return node[1] if kind == "sum" else node[2] if kind == "call" else node[1:]
