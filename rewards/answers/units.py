"""Units of measure and counted nouns: what may follow a number.

Rule: units may be missing but not different. The same quantity in another unit of the same kind is not different
(150 cm is 1.5 m), so a known unit carries its dimension and its size. A counted noun ("5 apples") is a unit too; nouns
are the same when one description contains the other ("red apples" and "apples"). Chinese counters (5个) say nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from rewards.answers.nouns import (
    CHANGES,
    DETERMINERS,
    EACH,
    LATER,
    SILENT,
    TAIL,
    chinese_noun,
    is_plural,
    plain_noun,
    singular,
)
from rewards.answers.unit_table import Dimension, Known, known


@dataclass(frozen=True, slots=True)
class Unit:
    """``dimension`` is empty for a counted noun, whose words are in ``words``."""

    dimension: Dimension = ()
    size: Fraction = Fraction(1)
    words: frozenset[str] = frozenset()
    country: str = ""
    """Of one kind of dollar."""
    one: bool = False
    """The noun is singular ("apple"): it can count at most one thing."""


MAX_UNIT = 120
"""Characters of the longest unit."""
_ONE = Known((), Fraction(1))
"""Any unit: ``24 units^2``."""
_TERM = re.compile(r"角形|次(?:函数|方程|多项式)")
"""What makes a term of geometry or algebra of a Chinese number: 三角形, 二次函数."""
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cubed": 3, "平方": 2, "立方": 3}
_INCH = re.compile(r"\s*(?:$|[^A-Za-z\s]|(?:long|tall|wide|high|deep|thick)(?![a-z]))")
_STANDING = re.compile(
    r"(?: (?:is|are|was|were|will be))? (?:left over|left|leftover|remaining|needed|required|present|visible|shown)$"
)
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_DIVISOR = re.compile(r"/\s*\(([^()/]*)\)")
_GREEK = re.compile(r"\\mu\s*(?=[A-Za-z])|(?<![A-Za-z])([mkMG]?)\s*(?:\\Omega|Ω)")
# How units are written together, and names of several words. The case of the short ones matters.
_ALIASES = {
    "mph": "mi/h", "kph": "km/h", "kmph": "km/h", "mps": "m/s", "kwh": "kW h", "mbps": "Mbit/s", "sq. ": "sq ",
    "cu. ": "cubic ", "degrees celsius": r"^\circ C", "degree celsius": r"^\circ C",
    "degrees centigrade": r"^\circ C", "degrees fahrenheit": r"^\circ F", "degree fahrenheit": r"^\circ F",
    "degrees c": r"^\circ C", "degrees f": r"^\circ F", "us dollars": "usd", "u.s. dollars": "usd",
    "australian dollars": "aud", "canadian dollars": "cad", "hong kong dollars": "hkd", "new zealand dollars": "nzd",
    "ordered pairs": "tuples", "singapore dollars": "sgd", "taiwan dollars": "twd", "mexican pesos": "mxn",
}  # fmt: skip
_ALIAS = re.compile("|".join(rf"\b{re.escape(k)}(?![a-z])" for k in _ALIASES), re.IGNORECASE)
_TOGETHER = re.compile(r"\b(?:(k?N)(m)|(N)(s)|(m?A)(h)|([kM]?W)(h)|(J|Pa|V)(s)|(kg)(m))(?![A-Za-z])")
_BOTH = re.compile(r"(?<![A-Za-z])(k?m|c?m|kg|g|J|mol|N|W)(s|h|m|dm|cm|kg|L|K|mol)(?=\^\{?-|-\d(?!\d))")
_TOKEN = re.compile(
    r"\^\\circ(?:\s*[CF](?![a-zA-Z]))?|\^\{?(-?\d)\}?|(?<=[A-Za-z])(-\d)(?!\d)|平方|立方|[A-Za-z]*[$€£¥¢₹₩]"
    r"|[A-Za-zμΩ\u4e00-\u9fff]+\.?|[/·*'-]|\\cdot|\\times|\s+"
)


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit | None:
    """The unit that ``text`` names, e.g. ``cm^{2}``, ``miles per hour``, ``red apples in the basket``; None when it
    names none. Words that say nothing (个, "in total") give an empty Unit."""
    if len(text) > MAX_UNIT:
        return None
    text = _STANDING.sub("", text.strip()).removeprefix("of a ").removeprefix("of an ")  # "3/4 of an hour"
    if text in {"'", "''", '"'}:
        return _named(text)
    if text in {"st", "nd", "rd", "th"}:
        return Unit()
    text = _FRACTION.sub(r"\1/\2", text).replace("每", "/") if "frac" in text or "每" in text else text
    if "(" in text:
        text = _DIVISOR.sub(r"/\1", text)
    if "\\" in text or "Ω" in text:
        text = _GREEK.sub(lambda m: "μ" if m.group(1) is None else f"{m.group(1)}Ω", text)
    text = _ALIAS.sub(lambda m: _ALIASES[m.group().lower()], text)
    text = _BOTH.sub(r"\1 \2", _TOGETHER.sub(lambda m: " ".join(g for g in m.groups() if g), text))
    reading, at = _Reading(), 0
    for match in _TOKEN.finditer(text):
        if match.start() != at:
            return None
        at = match.end()
        power = match.group(1) or match.group(2)
        token = match.group().strip().rstrip(".")
        if power is not None:
            if not reading.raise_to(int(power)):
                return None
        elif token and not reading.take(token, text[at:]):
            return None
    return reading.unit() if at == len(text) else None


@dataclass(slots=True)
class _Reading:
    """A text of units and nouns, read token by token. What a unit divides by comes after "/" or "per"; a tail ("of
    sugar", "in the basket") names nothing that is counted."""

    powers: dict[str, int] = field(default_factory=dict)
    size: Fraction = Fraction(1)
    country: str = ""
    words: set[str] = field(default_factory=set)
    plural: bool = False
    """A noun in the plural is among the words."""
    last: Known | None = None
    last_power: int = 1
    pending: int = 1
    sign: int = 1
    in_tail: bool = False
    open: bool = False
    """A word must follow: "5 a" says nothing."""
    closed: bool = False
    """Nothing more may be counted: "5 times"."""

    def take(self, token: str, rest: str) -> bool:
        """Whether ``token`` may stand here."""
        self.open = token in EACH and token != "each"
        if token in {"·", "*", "-", "'", "\\cdot", "\\times"}:
            return True
        if not token.isascii():
            token = token.removesuffix("左右") or token
        word = token.lower()
        if token == "/" or token in EACH:
            self.sign, self.in_tail, self.closed = -1, False, False
            return True
        if word in {"squared", "cubed"}:
            return self.raise_to(_POWERS[word])
        if word in _POWERS:
            self.pending = _POWERS[word]
            return True
        if word in LATER and self._named():
            self.in_tail = True
            return True
        if word in TAIL and not (word == "in" and _INCH.match(rest)):
            self.in_tail, self.closed = True, False
            return True
        if word == "times":
            self.closed = True
            return not self._named()
        if word in SILENT:
            self.pending = 1
            self.last = _ONE if word in {"unit", "units"} else self.last
            return True
        if word in CHANGES:
            return False
        unit = known("^\\circ|" + token[-1] if token.startswith("^") and token[-1] in "CF" else token)
        if unit is None and token[0] == "个":  # 三个小时
            unit = known(token[1:])
        if unit is not None and not self.in_tail:
            self._multiply(unit)
            return not self.closed
        return self._noun(word)

    def raise_to(self, power: int) -> bool:
        """A power after the unit that it belongs to."""
        if self.last is None or not power or self.in_tail:
            return False
        last, factor = self.last, self.last_power * (power - 1)
        self._multiply(last, factor)
        self.last = None
        return True

    def _multiply(self, unit: Known, power: int | None = None) -> None:
        exponent = self.sign * self.pending if power is None else power
        for base, n in unit.dimension:
            self.powers[base] = self.powers.get(base, 0) + n * exponent
        self.size *= unit.size**exponent
        self.country = unit.country or self.country
        self.last, self.last_power, self.pending = unit, exponent, 1

    def _noun(self, word: str) -> bool:
        if not word.isascii():
            return self._chinese(word)
        if word in DETERMINERS:
            return self.in_tail
        if len(word) < 3 or self.closed:
            return False
        if not self.in_tail and self.sign > 0:
            self.words.add(singular(word))
            self.plural = self.plural or is_plural(word)
        self.pending = 1
        return True

    def _chinese(self, word: str) -> bool:
        """A counter and a noun, or a unit and what it measures: 5升水, 60千米的路程."""
        if _TERM.match(word):
            return False
        noun = chinese_noun(word)
        if noun is None:
            cut = next((cut for cut in range(min(4, len(word) - 1), 0, -1) if known(word[:cut])), 0)
            unit = known(word[:cut]) if cut and plain_noun(word[cut:].removeprefix("的")) else None
            if unit is not None:
                self._multiply(unit)
            return unit is not None
        self.words |= noun
        return True

    def _named(self) -> bool:
        return bool(self.powers or self.words)

    def unit(self) -> Unit | None:
        """None when a power stands alone: ``5 cubed``."""
        if self.pending != 1 or self.open:
            return None
        dimension = tuple(sorted((base, n) for base, n in self.powers.items() if n))
        one = not dimension and not self.plural and any(word.isascii() for word in self.words)
        return Unit(dimension, self.size, frozenset(self.words), self.country, one)


def same_unit(gold: Unit | None, answer: Unit | None) -> Fraction | None:
    """The factor that turns a figure in the answer's unit into the gold's: 1 when either is missing, None when the
    units differ."""
    if gold is None or answer is None:
        return Fraction(1)
    if not (gold.dimension or gold.words) or not (answer.dimension or answer.words):
        return Fraction(1)  # one of them says nothing ("units", 个)
    if gold.country and answer.country and gold.country != answer.country:
        return None
    if not gold.dimension or not answer.dimension:
        shared = gold.words and answer.words and (gold.words <= answer.words or answer.words <= gold.words)
        return Fraction(1) if shared else None
    if gold.dimension == answer.dimension:
        return answer.size / gold.size
    if gold.dimension in _PRIMES or answer.dimension in _PRIMES:
        pairs = [(unit, answer) for unit in _PRIMES.get(gold.dimension, ())]
        pairs += [(gold, unit) for unit in _PRIMES.get(answer.dimension, ())]
        return next((factor for pair in pairs if (factor := same_unit(*pair)) is not None), None)
    return Fraction(1) if frozenset((gold.dimension, answer.dimension)) in _ALIKE else None


def priced(money: Unit, other: Unit | None) -> Unit | None:
    """The unit of a figure with a currency sign and what follows it: "$5 USD", "$18 every day"; None when the two
    contradict each other."""
    if other is None or not other.dimension:
        return money
    if same_unit(money, other) is not None:
        return other
    if any(power > 0 for _, power in other.dimension):
        return None
    return Unit(tuple(sorted(money.dimension + other.dimension)), money.size * other.size, country=money.country)


def _named(name: str) -> Unit:
    unit = known(name)
    assert unit is not None  # a name of the table
    return Unit(unit.dimension, unit.size, country=unit.country)


_PRIMES = {
    _named("'").dimension: (_named("arcminute"), _named("foot")),
    _named("''").dimension: (_named("arcsecond"), _named("inch")),
}
"""``30'`` may be minutes of arc or feet."""


def _alike(one: str, other: str) -> frozenset[Dimension]:
    return frozenset((_named(one).dimension, _named(other).dimension))


# Spellings that may mean either: "25 C", "5 pounds" of money, a bare "90 degrees" of temperature.
_ALIKE = {
    _alike("degree", "celsius"),
    _alike("degree", "fahrenheit"),
    _alike("celsius", "C"),
    _alike("fahrenheit", "F"),
    _alike("¥", "yuan"),
    _alike("¥", "yen"),
    _alike("gbp", "pound"),
}
