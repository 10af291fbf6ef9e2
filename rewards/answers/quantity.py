"""Reads one value: a number with its sign, separators, currency, percent sign, scale word and unit, a number in words,
or an expression. Reading decides nothing about equality; ``compare`` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from rewards.answers import arithmetic, latex, words
from rewards.answers.cost import MAX_CHARS, metered
from rewards.answers.units import MAX_UNIT, Unit, parse_unit, priced

Kind = Literal[
    "number", "expr", "list", "set", "tuple", "bracket", "interval", "union", "meet", "minus", "matrix", "relation",
    "range", "parts", "piecewise", "formula", "literal", "yes_no", "text",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parsed:
    """One answer as read. Only the fields of its kind are filled."""

    kind: Kind
    text: str
    """The cleaned text."""
    node: latex.Node | None = None
    """The tree of a number or an expression."""
    value: latex.Number | None = None
    """The value of a number as written, a percent sign not applied."""
    unit: Unit | None = None
    percent: bool = False
    decimals: int | None = None
    """Place of the last digit of a decimal (2 for 2.24, 21 for 1.60e-19), None for anything but a decimal literal."""
    plain: int = 0
    """Digits written after the point of a decimal literal."""
    items: tuple[Parsed, ...] = ()
    ends: str = ""
    """The two brackets of a tuple or an interval; the operator of a relation; the labels of parts."""
    label: str = ""
    """What stood before the equals sign of a labelled answer (``x`` in ``x = 5``)."""
    shape: tuple[int, int] = field(default=(0, 0))
    rounded: Parsed | None = None
    """The figure that an exact value is said to be about (``\\sqrt{10} \\approx 3.16``)."""
    condition: str = ""
    """What was said of its unknowns after it: ``n \\ge 1``."""
    integers: frozenset[str] = frozenset()
    """The unknowns that the condition declares to be integers."""


_DECIMAL = re.compile(
    r"([+-]?)(\d+|\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|)(?:\.(\d*))?(?:[eE]([+-]?\d{1,5}))?"
)
_SCIENTIFIC = re.compile(
    r"([+-]?\d+(?:\.(\d+))?)\s*(?:\*|\\times|\\cdot|[xX])\s*10\s*(?:\^|\*\*)\s*\{?\s*([+-]?\d{1,5})\s*\}?"
)
_REPEATING = re.compile(
    r"([+-]?\d*)\.(\d*)(?:\{?\\(?:overline|bar)\s*\{\s*(\d+)\s*\}\}?|\((\d+)\)|\s*(\.{2,}|\\[lc]?dots))"
)
# Dots over the first and the last digit of the period, or over all of them.
_DOT = r"\\dot\s*\{?\s*\d\s*\}?"
_DOTS = re.compile(rf"{_DOT}(?:\d*{_DOT})*+")
_POWER_OF_TEN = re.compile(r"([+-]?)10\s*\^\s*\{\s*([+-]?\d{1,5})\s*\}")
GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SPACED = re.compile(r"(?<![\d.,/])\d{1,3}(?: \d{3})+(?![\d/]| \d)")
_CURRENCY = re.compile(
    r"([+-]?)\s*((?:US|CA|AU|HK|NT|NZ|SG|MX|CN|A|C|S|R)?\s?[$]|[€£¥₹₩]"
    r"|(?:USD|AUD|CAD|HKD|NZD|SGD|TWD|EUR|GBP|CNY|RMB|JPY|INR|Rs\.?)\$?(?=[\s\d]))\s*([+-]?)(?=[\d.\\(])"
)
_GLUED = re.compile(r"(.*\d)([A-Za-z])")
_NOTED = re.compile(r"([^()]*[^()\s])\s*\(\s*([^()]+?)\s*\)")
_PART = re.compile(r"(\d++(?:\.\d++)?+)\s*+([A-Za-z\u4e00-\u9fff]+)")
_COMPOUND = re.compile(rf"{_PART.pattern}(?:\s*(?:and\s*)?{_PART.pattern})++")
_MONEY = {"K": "thousand", "M": "million", "B": "billion"}
_TRIG = re.compile(r"sin|cos|tan|cot|sec|csc")
_MONEY_SCALE = re.compile(r"([\d.,]+)\s?([kKMB])")
_PERCENT = re.compile(r"\s*(?:%|\\%|percent\b|per cent\b|pct\b\.?|％)\s*", re.IGNORECASE)
_SCALES = {word: Fraction(n) for word, n in words.SCALES.items() if word.isascii()} | {
    word: Fraction(1, n) for word, n in words.PARTS.items()
}
_SCALE = re.compile(rf"(.*[\d)}}])\s*-?({'|'.join(_SCALES)})\b\s*(.*)", re.IGNORECASE | re.DOTALL)
_HAS_DIGIT = re.compile(r"\d")
_UNIT_START = re.compile(
    r"(?<=[\d)}\]!i])\s*(?=[A-Za-z\u4e00-\u9fffμΩ°'\"$€£¥¢₩₹]|\^\\circ|\\mu|\\Omega|/\s*[A-Za-z]|\\frac\s*\{\s*[a-z]+\s*\}\s*\{\s*[a-z])|\s+(?=[A-Za-z\u4e00-\u9fff])"
)


def read_number(s: str) -> Parsed | None:
    """A plain number: digits with or without separators, a decimal, scientific notation."""
    match = _DECIMAL.fullmatch(s)
    if match is not None and (match.group(2) or match.group(3)):
        sign, whole, places, exponent = match.groups()
        if (
            len(whole) > 1
            and whole[0] == "0"
            and places is None
            and exponent is None
            and "," not in whole
            and " " not in whole
        ):
            return Parsed("literal", s, value=Fraction(int(whole)), node=("num", Fraction(int(whole))))
        digits = whole.replace(",", "").replace(" ", "") or "0"
        value = latex.decimal(f"{digits}.{places or '0'}e{exponent or '0'}" if places or exponent else digits)
        value = -value if sign == "-" else value
        plain = len(places) if places else 0
        return Parsed(
            "number",
            s,
            ("num", value),
            value,
            decimals=plain - int(exponent or 0) if plain or exponent else None,
            plain=plain,
        )
    if "." in s and len(s) < 80:
        barred = _DOTS.sub(lambda m: "\\overline{" + re.sub(r"\D", "", m.group()) + "}", s) if "\\dot" in s else s
        if (repeated := _REPEATING.fullmatch(barred)) is not None:
            return _repeating(s, *repeated.groups())
    if "10" not in s:
        return None
    match = _SCIENTIFIC.fullmatch(s)
    if match is not None:
        mantissa, places, exponent = match.groups()
        value = latex.decimal(f"{mantissa}e{exponent}")
        return Parsed(
            "number", s, ("num", value), value, decimals=len(places or "") - int(exponent), plain=len(places or "")
        )
    match = _POWER_OF_TEN.fullmatch(s)
    if match is not None:
        value = latex.decimal(f"{match.group(1)}1e{match.group(2)}")
        return Parsed("number", s, ("num", value), value)
    return None


def _repeating(
    s: str, whole: str, head: str, barred: str | None, bracketed: str | None, dots: str | None
) -> Parsed | None:
    """A repeating decimal: 0.\\overline{3}, 0.1(6), or 0.333..., whose end must show the period twice."""
    period = barred or bracketed
    if dots:
        n = len(head)
        periods = (p for p in range(1, n // 2 + 1) if head[n - p :] == head[n - 2 * p : n - p])
        length = next(periods, 0)
        if not length:
            plain = read_number(f"{whole}.{head}")
            return plain if head else None
        period, head = head[n - length :], head[: n - length]
    assert period is not None  # one of the three forms matched
    sign = -1 if whole.startswith("-") else 1
    shift = 10 ** len(head)
    value = abs(int(whole or "0")) + Fraction(int(head or "0"), shift)
    value = sign * (value + Fraction(int(period), shift * (10 ** len(period) - 1)))
    return Parsed("number", s, ("num", value), value)


def glued(parsed: Parsed) -> Parsed | None:
    """``5m`` read as a number with a one-letter unit, beside its reading as a product with an unknown."""
    match = _GLUED.fullmatch(parsed.text)
    figure = read_number(match.group(1)) if match is not None else None
    unit = parse_unit(match.group(2)) if match is not None else None
    return None if figure is None or unit is None else _with(figure, parsed.text, unit)


def read_quantity(s: str) -> Parsed | None:
    """A number or an expression with its currency, percent sign, scale word and unit."""
    found = _quantity(s)
    if found is not None and found.unit is not None and found.unit.one and not _at_most_one(found.value):
        return None  # "5 factorial": not the plural of anything that is counted
    return found


def _at_most_one(value: latex.Number | None) -> bool:
    return isinstance(value, Fraction) and abs(value) <= 1


@metered(len)
def _quantity(s: str) -> Parsed | None:
    unit: Unit | None = None
    body = s
    currency = _CURRENCY.match(body)
    if currency is not None:
        sign, symbol, inner = currency.groups()
        symbol = symbol.replace(" ", "")
        unit = parse_unit(symbol if len(symbol) < 4 else symbol.rstrip("$"))  # "CAD$"
        body = f"{sign}{inner}{body[currency.end() :]}".strip()
    number = read_number(body)
    if number is not None:
        return _with(number, s, unit)
    money = _MONEY_SCALE.fullmatch(body) if unit is not None else None  # "$1.5M"
    if money is not None:
        body = f"{money.group(1)} {_MONEY[money.group(2).upper()]}"
    if unit is None and body[:1].isdecimal() and (compound := _compound(s)) is not None:
        return compound
    written = _written(body)
    if written is not None:
        return written if unit is None else _with(written, s, unit)
    percent = _PERCENT.search(body)
    if percent is not None:
        rest = body[percent.end() :]
        if rest and parse_unit(rest) is None:
            return None
        inner_number = read_number(body[: percent.start()].strip()) or _constant(body[: percent.start()].strip())
        return _with(inner_number, s, None, percent=True) if inner_number is not None else None
    scale = _SCALE.fullmatch(body)
    if scale is not None:
        figure = read_number(scale.group(1).strip()) or _constant(scale.group(1).strip())
        rest = scale.group(3)
        trailing = parse_unit(rest) if rest else unit
        if figure is None or isinstance(figure.value, complex) or figure.value is None or (rest and trailing is None):
            return None
        value = figure.value * _SCALES[scale.group(2).lower()]
        return Parsed("number", s, ("num", value), value, trailing or unit)
    if unit is None:
        for match in _UNIT_START.finditer(body, max(0, len(body) - MAX_UNIT)):
            head, tail = body[: match.start()].strip(), body[match.end() :].strip()
            if not _HAS_DIGIT.search(head) or (
                len(tail) == 1 and tail.isascii() and tail.isalpha() and body[match.start()] == tail
            ):
                continue  # "5m" may be a product: see ``glued``
            if tail.startswith("(") and tail.endswith(")"):
                tail = tail[1:-1]
            named = parse_unit(tail)
            if named is None or (tail.startswith("^") and _TRIG.search(head)):
                continue  # the degrees of "sin 30°" belong inside
            figure = read_number(head) or _constant(head)
            if figure is not None:
                return _with(figure, s, named)
    if body.endswith(")") and (noted := _noted(body, s)) is not None:
        return noted
    if unit is not None:
        figure = _constant(body) or _quantity(body)
        whole = None if figure is None or figure.value is None else priced(unit, figure.unit)
        return None if figure is None or whole is None else _with(figure, s, whole)
    return None


def _noted(body: str, s: str) -> Parsed | None:
    """``5 (five)``, ``five (5)``, ``12 (cm)``: the same number again, or its unit, in brackets."""
    match = _NOTED.fullmatch(body)
    figure = _quantity(match.group(1)) or _constant(match.group(1)) if match is not None else None
    if match is None or figure is None or figure.value is None:
        return None
    again = read_number(match.group(2)) or _written(match.group(2)) or _constant(match.group(2))
    if match.group(1) == match.group(2):
        return None  # "2(2)" is a product
    if again is not None:
        return figure if again.value == figure.value else None
    named = parse_unit(match.group(2))
    if named is None or figure.unit is not None:
        return None if named is None else figure
    return _with(figure, s, named)


def _compound(s: str) -> Parsed | None:
    """``2 hours and 30 minutes``, ``5 ft 6 in``: parts of one quantity, in ever smaller units of one kind."""
    if _COMPOUND.fullmatch(s) is None:
        return None
    parts = _PART.findall(s)
    units = [parse_unit(name) for _, name in parts]
    first = units[0]
    if first is None or not first.dimension:
        return None
    total, size = Fraction(0), first.size + 1
    for (figure, _), unit in zip(parts, units, strict=True):
        if unit is None or unit.dimension != first.dimension or unit.size >= size:
            return None
        total, size = total + Fraction(figure) * unit.size, unit.size
    value = total / first.size
    return Parsed("number", s, ("num", value), value, first)


def _with(number: Parsed, text: str, unit: Unit | None, *, percent: bool = False) -> Parsed:
    return Parsed(
        "number", text, number.node, number.value, unit, percent or number.percent, number.decimals, number.plain
    )


def _written(s: str) -> Parsed | None:
    """A number in English or Chinese words, with what is counted."""
    if not s:
        return None
    if s[0].isascii():
        whole, joint, part = s.partition(" and ")
        if joint and whole.isdecimal() and (broken := words.english(part)) is not None and 0 < broken[0] < 1:
            unit = parse_unit(broken[1]) if broken[1] else None
            value = int(whole) + broken[0]  # "5 and a half"
            return None if broken[1] and unit is None else Parsed("number", s, ("num", value), value, unit)
        if s.isascii() and not s[0].isalpha():
            return None
        if s[0].isalpha():
            first = re.match(r"[A-Za-z]+", s)
            assert first is not None  # s starts with an ASCII letter
            if first.group().lower() not in words.NUMBER_WORDS | {"a", "an", "minus", "negative"}:
                return None
            found = words.english(s)
            if found is None:
                figure = re.fullmatch(r"(?:minus|negative) (\d.*)", s, re.IGNORECASE)
                return read_number(f"-{figure.group(1)}") or read_quantity(f"-{figure.group(1)}") if figure else None
            value, rest = found
            if percent := _PERCENT.fullmatch(rest):
                return Parsed("number", s, ("num", value), value, percent=bool(percent))
            if value.denominator != 1:  # "half an hour"
                rest = rest.removeprefix("of ").removeprefix("a ").removeprefix("an ")
            unit = parse_unit(rest) if rest else None
            return None if rest and unit is None else Parsed("number", s, ("num", value), value, unit)
    read_chinese = words.chinese(s)
    if read_chinese is None:
        return None
    value, is_percent, rest = read_chinese
    unit = parse_unit(rest) if rest else None
    if rest and (unit is None or rest.isascii()):
        return None
    plain = re.match(r"\d+\.(\d+)", s)
    places = len(plain.group(1)) if plain else 0
    return Parsed("number", s, ("num", value), value, unit, is_percent, places or None, places)


def _constant(s: str) -> Parsed | None:
    """An expression without unknowns, with its value."""
    parsed = read_expression(s)
    return parsed if parsed is not None and parsed.value is not None else None


@metered(len)
def read_expression(s: str) -> Parsed | None:
    """The answer as a number or an expression; None when it is neither."""
    if not s or len(s) > MAX_CHARS:
        return None
    try:
        node = expression_node(s)
    except latex.Unreadable:
        return None
    return from_node(node, s)


def from_node(node: latex.Node, text: str = "") -> Parsed:
    """A tree as a number, or as an expression when it has unknowns or no value."""
    if not latex.symbols(node):
        try:
            return Parsed("number", text or repr(node), node, arithmetic.evaluate(node))
        except latex.Unreadable:
            pass
    return Parsed("expr", text or repr(node), node)


_NO_LETTERS: frozenset[str] = frozenset()


def expression_node(
    s: str, functions: frozenset[str] = _NO_LETTERS, letters: frozenset[str] = _NO_LETTERS
) -> latex.Node:
    """The tree of an expression, as ``latex.parse`` reads it. Raises Unreadable or TooLarge."""
    body = _SPACED.sub(lambda m: m.group().replace(" ", ""), GROUPED.sub(lambda m: m.group().replace(",", ""), s))
    return latex.parse(body, functions, letters)
