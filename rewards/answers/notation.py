"""Numbers in notations of their own: other bases, ratios, ranges, degrees and minutes, circled numbers, dates.

Each is read whole or not at all.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from rewards.answers import words
from rewards.answers.normalize import CIRCLED
from rewards.answers.quantity import Parsed, read_number, read_quantity
from rewards.answers.units import parse_unit

_MAX_CHARS = 120
_TRIGGER = re.compile(
    rf"[_~'\"°度{CIRCLED}-]|\bbase\b|al\b|binary|through|\bto\b|\band\b|\\sim|deg|至|到",
    re.IGNORECASE,
)
_BASE = re.compile(
    r"\(?\s*([0-9A-Za-z]{1,64})\s*\)?\s*(?:_\s*\{?\s*\(?\s*(?:base\s*)?(\d{1,2}|[a-z]+)\s*\)?\s*\}?"
    r"|\s*\(?(?:in\s+)?(?:base[ -]?(\d{1,2}|[a-z]+)|(binary|octal|decimal|hexadecimal))\)?)",
    re.IGNORECASE,
)
_BASES = {"binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16}
_TERM = r"(?:\d+(?:\.\d+)?(?:/\d+)?|\\frac\{\d+\}\{\d+\})"
_RATIO = re.compile(rf"{_TERM}(?:\s?(?::|比)\s?{_TERM})+|{_TERM}(?: to {_TERM})+")
_CLOCK = re.compile(r"(?:[01]?\d|2[0-4]):[0-5]\d(?::[0-5]\d)?")
_FIGURE = r"[$€£¥]?(?!0\d)\d[\d,]*(?:\.\d+)?"
_RANGE = re.compile(
    rf"(from |between |从)?(-?{_FIGURE}(?:\s?[^\d\s~-][^\d~-]{{0,30}}?)?)\s*"
    rf"(-|~|\\sim|\bto\b|\bthrough\b|\band\b|至|到)\s*({_FIGURE}.{{0,60}})"
)
_ARC = re.compile(
    r"""(-?\d+(?:\.\d+)?)\s*(?:\^\\circ|deg(?:rees?)?|度)\s*(?:(\d+(?:\.\d+)?)\s*(?:'|(?:arc)?min(?:utes?)?|分))?"""
    r"""\s*(?:(\d+(?:\.\d+)?)\s*(?:"|''|(?:arc)?sec(?:onds?)?|秒))?"""
)
_CIRCLES = re.compile(
    rf"(?:(?:正确的?|应?选|序号|结论|命题|说法)*(?:是|为|有|:)?\s*)([{CIRCLED}](?:\s*(?:[,;和与及]|and|(或|or))?\s*[{CIRCLED}])*)"
    r"\s*(?:都?正确|是正确的|都?对)?"
)
_DATE = re.compile(
    r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})(?:[-/.](?P<d>\d{1,2}))?|(?P<y1>\d{4})年(?P<m1>\d{1,2})月(?:(?P<d1>\d{1,2})[日号])?"
    r"|(?P<m2>\d{1,2})月(?P<d2>\d{1,2})[日号]"
)
_MONTHS = {
    spelling: number
    for number, name in enumerate(
        ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
         "december"), 1
    )
    for spelling in (name, name[:3], "sept" if name == "september" else name)
}  # fmt: skip
_MONTH = re.compile("jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec", re.IGNORECASE)
_DATE_WORD = re.compile(r"([a-z]+)|(\d+)(?:st|nd|rd|th)?(?![a-z\d])|[\s,./-]+")
_FILLS = frozenset(["of", "the"]) | {f"{day}day" for day in ("mon", "tues", "wednes", "thurs", "fri", "satur", "sun")}
_SLASHED = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})")
_TIME = re.compile(r"(\d{1,2})(?::(\d{2}))?(?::(\d{2}))? ?(?:([ap])\.?m\.?)?")


def read_notation(s: str) -> Parsed | None:
    """A cleaned answer in one of these notations; None when it is in none."""
    if len(s) > _MAX_CHARS:
        return None
    if _MONTH.search(s) is not None and date(s) is not None:
        return Parsed("literal", s)
    if _TRIGGER.search(s) is None:
        return None
    return _based(s) or _arc(s) or _circled(s) or _range(s)


def _based(s: str) -> Parsed | None:
    """``(1011)_2``, ``be_{16}``, ``73 base eight``: text, since the base is a part of what was asked for; decimal
    numbers are themselves."""
    match = _BASE.fullmatch(s)
    if match is None:
        return None
    digits, name = match.group(1).upper(), next(filter(None, match.groups()[1:])).lower()
    spelled = words.english(name) if name.isalpha() else (Fraction(int(name)), "")
    spelled = (Fraction(_BASES[name]), "") if name in _BASES else spelled
    if spelled is None or spelled[1] or not 2 <= spelled[0] <= 16:
        return None
    base = int(spelled[0])
    if any(int(c, 36) >= base for c in digits) or (len(digits) == 1 and digits.isalpha()):
        return None  # "x_2" is an unknown
    return read_number(digits) if base == 10 else Parsed("literal", f"{digits}_{base}")


def _arc(s: str) -> Parsed | None:
    """``7^\\circ 30'`` -> 7.5 degrees."""
    match = _ARC.fullmatch(s)
    if match is None or (match.group(2) is None and match.group(3) is None):
        return None
    degrees, *parts = (Fraction(part or 0) for part in match.groups())
    if any(part >= 60 for part in parts):
        return None
    size = abs(degrees) + parts[0] / 60 + parts[1] / 3600
    value = -size if s[0] == "-" else size
    return Parsed("number", s, ("num", value), value, parse_unit("degree"))


def _circled(s: str) -> Parsed | None:
    """``①③``, ``①、③``: the numbers of the right statements, in any order."""
    match = _CIRCLES.fullmatch(s)
    if match is None:
        return None
    if match.group(2):
        return Parsed("text", s)  # "① or ②"
    numbers = dict.fromkeys(CIRCLED.index(c) + 1 for c in match.group(1) if c in CIRCLED)
    return Parsed("set", s, items=tuple(Parsed("text", f"statement {n}") for n in numbers))


def _range(s: str) -> Parsed | None:
    """``8-12 cm``, ``8 to 12 cm``, ``from $5 to $7``: two figures; the unit of the second is the first one's, too."""
    match = _RANGE.fullmatch(s)
    if match is None:
        return None
    opening, first, joint, last = match.groups()
    if (opening == "between ") != (joint == "and") or (joint == "-" and s[0] == "-"):
        return None
    low, high = read_quantity(first.strip()), read_quantity(last.strip())
    if low is None or high is None:
        return None
    a, b = low.value, high.value
    if not isinstance(a, Fraction) or not isinstance(b, Fraction) or (joint == "-" and "." in s and a >= b):
        return None  # "5.5-3.2" is a difference
    quotient = None
    if low.unit is None and not low.percent:
        if high.unit is not None or high.percent:
            low = replace(low, unit=high.unit, percent=high.percent)
        elif joint == "to" and not opening and b:
            quotient = a / b
    return Parsed("range", s, None if quotient is None else ("num", quotient), quotient, items=(low, high))


@lru_cache(maxsize=4096)
def ratio(text: str) -> tuple[tuple[Fraction, ...], bool] | None:
    """The terms of ``2:6:10``, ``2 to 3`` or ``2比3`` without their common factor, and whether it may be a time of day;
    None when ``text`` is no ratio."""
    if len(text) > _MAX_CHARS or _RATIO.fullmatch(text) is None:
        return None
    plain = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text)
    try:
        terms = [Fraction(term) for term in re.split(r"\s?(?::|比)\s?| to ", plain)]
    except ZeroDivisionError:
        return None
    return (tuple(t / terms[0] for t in terms), _CLOCK.fullmatch(text) is not None) if terms[0] else None


def date(text: str) -> tuple[int, int, int] | None:
    """(year, month, day) of ``2023-05-01``, ``1 May 2023``, ``2023年5月1日``, ``5月1号``, with 0 for what is not said;
    None when ``text`` is no date, or one that two countries read differently (``5/6/2023``)."""
    match = _DATE.fullmatch(text)
    if match is not None:
        said = {name[0]: int(value) for name, value in match.groupdict(default="").items() if value}
        return said.get("y", 0), said.get("m", 0), said.get("d", 0)
    slashed = _SLASHED.fullmatch(text)
    if slashed is not None:
        first, second, year = map(int, slashed.groups())
        clear = max(first, second) > 12 or first == second
        return (year, min(first, second), max(first, second)) if clear else None
    year = month = day = at = 0
    for found in _DATE_WORD.finditer(text.lower()[:_MAX_CHARS]):
        if found.start() != at:
            return None
        at = found.end()
        word, number = found.groups()
        if word in _MONTHS and not month:
            month = _MONTHS[word]
        elif number and len(number) == 4 and not year:
            year = int(number)
        elif number and len(number) <= 2 and not day:
            day = int(number)
        elif (word and word not in _FILLS) or number:
            return None
    return (year, month, day) if month and (day or year) and at == len(text) else None


def time_of_day(text: str) -> int | None:
    """Seconds since midnight of ``3:30 pm`` and ``15:30``; None for what is no time, or might be one of two (3:30)."""
    match = _TIME.fullmatch(text)
    if match is None or not (match.group(2) or match.group(4)):
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    half = match.group(4)
    if hour > (12 if half else 24) or minute > 59 or second > 59 or (not half and 0 < hour < 13):
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return (hour * 60 + minute) * 60 + second
