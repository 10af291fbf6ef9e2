"""A small calculator for LaTeX and plain mathematical notation: tokens, recursive descent, evaluation.

It never calls eval and never builds a sympy object. Rational arithmetic is exact (``Fraction``), everything else is
floating point; symbols take fixed values, so two expressions are compared by their values at a few points. What it
cannot read it refuses with ``Unreadable`` ("don't know"); what would cost too much to compute with ``TooLarge``.
"""

from __future__ import annotations

import cmath
import math
import re
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

Number: TypeAlias = Fraction | float | complex
Node: TypeAlias = tuple[Any, ...]
"""``("num", Fraction)``, ``("sym", name)``, ``("const", name)``, ``("sum", nodes)``, ``("mul" | "div" | "pow", a, b)``,
``("neg", a)`` or ``("call", function name, nodes)``."""

MAX_DEPTH = 60
MAX_DIGITS = 10_000
"""Digits of any exact number: a power, factorial or binomial beyond it is not computed."""
_MAX_BITS = int(MAX_DIGITS * 3.33)


class Unreadable(Exception):
    """The text is not in this calculator's language, or has no finite value here."""


class TooLarge(Exception):
    """Reading or computing it would cost too much."""


_LEX = re.compile(
    r"(?P<num>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+(?![A-Za-z0-9]))?)|(?P<cmd>\\[A-Za-z]+|\\.)|(?P<word>[A-Za-z]+)"
    r"|(?P<op>\*\*|[-+*/^_(){}\[\]|!%=,:'])|(?P<space>\s+)"
)
_FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "exp", "ln", "log", "lg", "abs", "sqrt", "floor", "ceil", "gcd", "lcm", "max", "min", "arccot",
}  # fmt: skip
_CONSTANTS = {"pi", "e", "i"}
_GREEK_NAMES = """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega
    Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell
"""
_GREEK = _GREEK_NAMES.split()
_WORDS = {name: name for name in (*_FUNCTIONS, "pi", *_GREEK)} | {"cdot": "*", "times": "*"}
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


def plain_products(words: str) -> bool:
    """Whether a run of letters reads as a product of variables (``xy``, ``abc``) rather than as a word."""
    return len(words) <= 2 or (len(words) == 3 and list(words) == sorted(words) and not set(words) & set("eiou"))


@lru_cache(maxsize=4096)
def parse(text: str) -> Node:
    """The tree of a cleaned expression. Raises Unreadable or TooLarge."""
    if len(text) > 2000:
        raise TooLarge
    if text.lower() in _SHORT_WORDS:
        raise Unreadable
    text = _CROSS.sub(r"\\times ", _MIXED.sub(_mixed, text))
    parser = _Parser(_tokens(text))
    try:
        node = parser.sum(0)
    except RecursionError:
        raise Unreadable from None
    if parser.peek() is not None:
        raise Unreadable
    return node


def _mixed(match: re.Match[str]) -> str:
    whole, top, top1, bottom, bottom1, whole2, top2, bottom2 = match.groups()
    if whole is not None:
        return f"({whole}+{top or top1}/{bottom or bottom1})"
    return f"({whole2}+{top2}/{bottom2})"


def _tokens(text: str) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    at = 0
    for match in _LEX.finditer(text):
        if match.start() != at:
            raise Unreadable
        at = match.end()
        kind, value = match.lastgroup or "", match.group()
        if kind == "word":
            out += _letters(value)
        elif kind == "cmd" and value[1:] in _FUNCTIONS:
            out.append(("fn", value[1:]))
        elif kind != "space":
            out.append((kind, "^" if value == "**" else value))
    if at != len(text):
        raise Unreadable
    return out


def _letters(word: str) -> list[tuple[str, str]]:
    lower = word if word in _WORDS else word.lower()
    if lower in _FUNCTIONS:
        return [("fn", lower)]
    if lower in _WORDS and (len(word) > 2 or lower == "pi"):
        return [("cmd", "\\" + lower)]
    if len(word) > 2:
        for name in ("sqrt", "pi", "theta", "sin", "cos", "tan", "ln", "log"):
            if name in word and len(word) - len(name) <= 1:
                head, _, tail = word.partition(name)
                token = ("fn", name) if name in _FUNCTIONS else ("cmd", "\\" + name)
                return [*(("var", c) for c in head), token, *(("var", c) for c in tail)]
    if not plain_products(word):
        raise Unreadable
    return [("var", c) for c in word]


_DEGREE: Node = ("div", ("const", "pi"), ("num", Fraction(180)))


class _Parser:
    """sum := product (± product)*; product := unary (operator unary | unary)*; unary := -unary | power;
    power := postfix (^ unary)?; postfix := atom (! | % | ' | ^\\circ)*."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0
        self.in_function = 0

    def peek(self) -> tuple[str, str] | None:
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
                if self.tokens[self.at][0] == "num" and self.tokens[self.at - 1][0] in {"num", "var"}:
                    raise Unreadable  # "2 3" and "H2O" are no products
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
        return value in {"(", "[", "{"}

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
            return self._symbol(value)
        if kind == "fn":
            return self._call(value, depth)
        if value in _OPEN and value != r"\{":
            node = self.sum(depth + 1)
            self.need(_OPEN[value])
            if value in {r"\lfloor", r"\lceil"}:
                return ("call", "floor" if value == r"\lfloor" else "ceil", (node,))
            return node
        if value == "|":
            node = self.sum(depth + 1)
            self.need("|")
            return ("call", "abs", (node,))
        if value == r"\frac":
            top = self._argument(depth)
            return ("div", top, self._argument(depth))
        if value in {r"\binom", r"\dbinom", r"\tbinom"}:
            top = self._argument(depth)
            return ("call", "binomial", (top, self._argument(depth)))
        if kind == "cmd" and value[1:] in _CONSTANTS:
            return ("const", value[1:])
        if kind == "cmd" and value[1:] in _GREEK:
            return self._symbol(value)
        raise Unreadable

    def _symbol(self, name: str) -> Node:
        if self.take("_"):
            name += "_" + self._subscript()
        while self.take("'"):
            name += "'"
            if self.at < len(self.tokens) and self.tokens[self.at][0] == "var":
                raise Unreadable  # "it's"
        return ("const", name) if name in _CONSTANTS else ("sym", name)

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
        if self.value() in {"(", "["}:
            closing = _OPEN[self.value()]
            self.at += 1
            args = [self.sum(depth + 1)]
            while self.take(","):
                args.append(self.sum(depth + 1))
            self.need(closing)
        else:
            args = [self._bare(depth)]
        self.in_function -= 1
        if exponent == ("neg", ("num", Fraction(1))) and "arc" + name in _FUNCTIONS:
            return ("call", "arc" + name, tuple(args))
        if base is not None:
            if name != "log":
                raise Unreadable
            args.append(base)
        node = ("call", name, tuple(args))
        return node if exponent is None else ("pow", node, exponent)

    def _bare(self, depth: int) -> Node:
        """The argument of ``sin 2x`` or ``ln 3``: factors side by side, up to the next function or operator."""
        node = self.unary(depth + 1)
        while self._starts_atom() and self.tokens[self.at][0] in {"num", "var"}:
            node = ("mul", node, self.power(depth + 1))
        return node


def decimal(text: str) -> Fraction:
    """An exact number from ``12``, ``1.5``, ``1.6e-19``. Raises TooLarge for absurd exponents."""
    _, _, exponent = text.lower().partition("e")
    if len(text) > 2000 or (exponent and (len(exponent) > 6 or abs(int(exponent)) > MAX_DIGITS)):
        raise TooLarge
    return Fraction(text)


def symbols(node: Node) -> frozenset[str]:
    """Names of the unknowns in ``node``."""
    kind = node[0]
    if kind == "sym":
        return frozenset((node[1],))
    if kind in {"num", "const"}:
        return frozenset()
    children = node[1] if kind == "sum" else node[2] if kind == "call" else node[1:]
    return frozenset().union(*(symbols(child) for child in children))


_POINTS = (0.731, 1.213, -0.577)


def assign(names: frozenset[str], point: int) -> dict[str, Number]:
    """Fixed values for the unknowns: two points with positive values, one with negative ones. They depend on the name
    only (not on the hash seed), so both sides of a comparison see the same."""
    return {name: _POINTS[point] * (1 + zlib.crc32(name.encode("utf-8", "replace")) % 9973 / 9973) for name in names}


def evaluate(node: Node, values: dict[str, Number] | None = None) -> Number:
    """The value of ``node``. Raises Unreadable where it has none and TooLarge where it costs too much."""
    try:
        result = _value(node, values or {})
    except (ArithmeticError, ValueError, TypeError, RecursionError) as error:  # TypeError: sin(3, 4)
        raise Unreadable from error
    if isinstance(result, complex):
        if not (math.isfinite(result.real) and math.isfinite(result.imag)):
            raise Unreadable
        if abs(result.imag) <= 1e-14 * abs(result):
            return result.real
    elif isinstance(result, float) and not math.isfinite(result):
        raise Unreadable
    return result


def _value(node: Node, values: dict[str, Number]) -> Number:
    kind = node[0]
    if kind == "num":
        return node[1]
    if kind == "sym":
        return values[node[1]] if node[1] in values else _refuse()
    if kind == "const":
        return {"pi": math.pi, "e": math.e, "i": 1j}[node[1]]
    if kind == "sum":
        total = _value(node[1][0], values)
        for term in node[1][1:]:
            total = _small(total + _value(term, values))
        return total
    if kind == "neg":
        return -_value(node[1], values)
    if kind == "call":
        return _CALLS[node[1]](*(_value(arg, values) for arg in node[2])) if node[1] in _CALLS else _refuse()
    a, b = _value(node[1], values), _value(node[2], values)
    if kind == "mul":
        return _small(a * b)
    if kind == "div":
        return _small(a / b)
    return _power(a, b)


def _refuse() -> Number:
    raise Unreadable


def _small(x: Number) -> Number:
    if isinstance(x, Fraction) and x.numerator.bit_length() + x.denominator.bit_length() > 2 * _MAX_BITS:
        raise TooLarge
    return x


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            n = abs(exponent.numerator)
            if (
                base not in (0, 1, -1)
                and n * max(base.numerator.bit_length(), base.denominator.bit_length()) > _MAX_BITS
            ):
                raise TooLarge
            return base**exponent.numerator
        if base >= 0 and exponent.denominator <= 64:
            return _power(_root(base, Fraction(exponent.denominator)), Fraction(exponent.numerator))
    if isinstance(exponent, Fraction) and exponent.denominator == 1 and abs(exponent.numerator) > 10**6:
        raise Unreadable
    result = _inexact(base) ** _inexact(exponent)
    return result


def _inexact(x: Number) -> float | complex:
    return float(x) if isinstance(x, Fraction) else x


def _root(x: Number, index: Number) -> Number:
    if isinstance(index, Fraction) and index.denominator == 1 and 0 < index.numerator <= 64:
        n = index.numerator
        if isinstance(x, Fraction) and (x >= 0 or n % 2):
            sign = -1 if x < 0 else 1
            top, bottom = _whole_root(abs(x.numerator), n), _whole_root(x.denominator, n)
            if top is not None and bottom is not None:
                return Fraction(sign * top, bottom)
            return float(sign * _inexact(abs(x)) ** (1 / n))  # type: ignore[arg-type]
        if isinstance(x, float) and x < 0 and n % 2:
            return float(-((-x) ** (1 / n)))
        if n == 2:
            return cmath.sqrt(_inexact(x)) if isinstance(x, complex) or x < 0 else math.sqrt(x)
    return _power(_inexact(x), 1 / _inexact(index))


def _whole_root(x: int, n: int) -> int | None:
    """The integer n-th root of x when it is exact."""
    if n == 2:
        root = math.isqrt(x)
    elif x.bit_length() > 900:
        return None
    else:
        root = round(x ** (1 / n))
    return root if root**n == x else None


def _factorial(x: Number) -> Number:
    if not isinstance(x, Fraction) or x.denominator != 1 or x < 0:
        raise Unreadable
    if x > 3249:  # 3249! is the last with at most 10,000 digits
        raise TooLarge
    return Fraction(math.factorial(x.numerator))


def _binomial(n: Number, k: Number) -> Number:
    if not (isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1):
        raise Unreadable
    if n < 0 or k < 0:
        raise Unreadable
    if n > 30_000:  # C(n, n/2) has about 0.3 n digits
        raise TooLarge
    return Fraction(math.comb(n.numerator, k.numerator))


def _log(x: Number, base: Number = Fraction(10)) -> Number:
    if isinstance(x, Fraction) and isinstance(base, Fraction) and x > 0 and base > 1:
        guess = round(_ln(x) / _ln(base))
        if abs(guess) <= 64 and base**guess == x:
            return Fraction(guess)
        return _ln(x) / _ln(base)
    return cmath.log(_inexact(x)) / cmath.log(_inexact(base))


def _ln(x: Number) -> float:
    if isinstance(x, Fraction):
        return math.log(x.numerator) - math.log(x.denominator)
    return math.log(x)  # type: ignore[arg-type]


def _natural(x: Number) -> Number:
    if isinstance(x, complex) or x <= 0:
        return cmath.log(_inexact(x))
    return Fraction(0) if x == 1 else _ln(x)


def _integers(combine: Callable[..., int]) -> Callable[..., Number]:
    def call(*xs: Number) -> Number:
        if not all(isinstance(x, Fraction) and x.denominator == 1 for x in xs):
            raise Unreadable
        return Fraction(combine(*(x.numerator for x in xs)))  # type: ignore[union-attr]

    return call


def _real(function: Callable[[Any], Any]) -> Callable[..., Number]:
    def call(x: Number) -> Number:
        if isinstance(x, complex):
            raise Unreadable
        return Fraction(function(x))

    return call


def _float(function: Callable[[complex], complex]) -> Callable[[Number], Number]:
    def call(x: Number) -> Number:
        value = function(complex(_inexact(x)))
        return value.real if not isinstance(x, complex) and abs(value.imag) <= 1e-15 * abs(value) else value

    return call


_CALLS: dict[str, Callable[..., Number]] = {
    "factorial": _factorial,
    "binomial": _binomial,
    "root": _root,
    "abs": abs,
    "floor": _real(math.floor),
    "ceil": _real(math.ceil),
    "gcd": _integers(math.gcd),
    "lcm": _integers(math.lcm),
    "log": _log,  # without a base: to base 10, on both sides alike
    "lg": _log,
    "ln": _natural,
    "exp": _float(cmath.exp),
    "sin": _float(cmath.sin),
    "cos": _float(cmath.cos),
    "tan": _float(cmath.tan),
    "cot": _float(lambda z: 1 / cmath.tan(z)),
    "sec": _float(lambda z: 1 / cmath.cos(z)),
    "csc": _float(lambda z: 1 / cmath.sin(z)),
    "sinh": _float(cmath.sinh),
    "cosh": _float(cmath.cosh),
    "tanh": _float(cmath.tanh),
    **{name: _float(cmath.asin) for name in ("arcsin", "asin")},
    **{name: _float(cmath.acos) for name in ("arccos", "acos")},
    **{name: _float(cmath.atan) for name in ("arctan", "atan")},
}
