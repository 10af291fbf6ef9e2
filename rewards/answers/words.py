"""Numbers written in words: English ("one hundred and five", "two thirds") and Chinese ("一百零五", "三分之一").

Both readers return the number and what follows it, or None when the text does not begin with a number word. The
caller decides what the rest may be (a unit, a counted noun, nothing).
"""

from __future__ import annotations

import re
from fractions import Fraction

_ONES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = "third fourth fifth sixth seventh eighth ninth tenth"
_SMALL = {word: n for n, word in enumerate(_ONES.split())} | {word: 10 * n for n, word in enumerate(_TENS.split(), 2)}
SCALES = {
    "hundred": 100,
    "dozen": 12,
    "thousand": 1_000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "万": 10**4,
    "亿": 10**8,
    "千": 10**3,
    "百": 10**2,
    "百万": 10**6,
    "千万": 10**7,
}
_SMALL_PARTS = {"twentieth": 20, "hundredth": 100, "thousandth": 1000, "millionth": 10**6}
PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4} | {
    f"{name}{s}": n
    for name, n in (*((name, n) for n, name in enumerate(_ORDINALS.split(), 3)), *_SMALL_PARTS.items())
    for s in ("", "s")
}
"""Names of fractions: ``fifths`` -> 5."""
NUMBER_WORDS = frozenset(
    (*PARTS, "sixes", *(word + s for word in (*_SMALL, *SCALES) if word.isascii() for s in ("", "s")))
)
_WORD = re.compile(r"[a-z]+")


def english(text: str) -> tuple[Fraction, str] | None:
    """``"twenty-one cats"`` -> (21, "cats"); None when the text does not begin with a number word."""
    whole, point, digits = text.partition(" point ")
    if point and (before := english(whole)) is not None and not before[1]:
        spelled = re.match(rf"(?:(?:{'|'.join(_ONES.split()[:10])})(?![a-z])[ -]*)+", digits.lower())
        if spelled is None:
            return None
        places = [str(_SMALL[word]) for word in _WORD.findall(spelled.group())]
        sign = -1 if text.lower().startswith(("minus ", "negative ")) else 1
        value = Fraction(f"{abs(before[0])}.{''.join(places)}")
        return sign * value, digits[spelled.end() :].strip()
    sign = 1
    lower = text.lower()
    for prefix in ("minus ", "negative "):
        if lower.startswith(prefix):
            sign, lower, text = -1, lower[len(prefix) :], text[len(prefix) :]
    for prefix in ("half a dozen", "half dozen"):
        if lower.startswith(prefix):
            return Fraction(6 * sign), text[len(prefix) :].strip()
    words = [(m.group(), m.end()) for m in _WORD.finditer(lower)]
    if not words or not lower.startswith(words[0][0]):
        return None
    total, current, end, i, seen = Fraction(0), Fraction(0), 0, 0, False
    if words[0][0] in {"a", "an"} and len(words) > 1 and (words[1][0] in SCALES or words[1][0] in PARTS):
        current, i, end = Fraction(1), 1, words[0][1]
    while i < len(words):
        word, stop = words[i]
        if lower[end : stop - len(word)].strip(" -") and i:
            break  # something other than spaces and hyphens lies between: the number ends here
        if word in _SMALL:
            if seen and not _follows(_SMALL[word], current, words[i - 1][0]):
                break
            current += _SMALL[word]
        elif word in SCALES and (seen or current):
            if word == "hundred" or word == "dozen":
                current *= SCALES[word]
            else:
                total, current = total + current * SCALES[word], Fraction(0)
        elif word in PARTS and (seen or current or word in {"half", "quarter"}):
            current = (current or 1) * Fraction(1, PARTS[word])
            return sign * (total + current), text[stop:].strip()
        elif word == "and" and seen and i + 1 < len(words):
            following = [w for w, _ in words[i + 1 : i + 4]]
            tail = following[1:] if following[0] in {"a", "one"} else following
            if tail and tail[0] in PARTS and following[0] != tail[0]:
                return sign * (total + current + Fraction(1, PARTS[tail[0]])), text[words[i + 2][1] :].strip()
            if len(following) > 1 and following[0] in _SMALL and following[1] in PARTS:
                part = Fraction(_SMALL[following[0]], PARTS[following[1]])
                return sign * (total + current + part), text[words[i + 2][1] :].strip()
            if following[0] not in _SMALL or not (current % 100 == 0 and (current or total)):
                break
            end = stop
            i += 1
            continue
        else:
            break
        seen, end, i = True, stop, i + 1
    return (sign * (total + current), text[end:].strip(" -")) if seen else None


def _follows(n: int, current: Fraction, before: str) -> bool:
    """Whether the word for ``n`` goes on with a number: "twenty one", "hundred twenty", but not "seven eight"."""
    if before in SCALES or before == "and":
        return n > 0
    return 0 < n < 10 and current % 100 >= 20 and current % 10 == 0


_DIGITS = {
    c: n
    for n, cs in enumerate(("零〇", "一壹", "二贰两", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖"))
    for c in cs
}
_UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_BIG = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_NUMERAL = "[" + "".join(_DIGITS) + "".join(_UNITS) + "".join(_BIG) + "]+"
_THOUSANDS = "[千百](?![米克瓦卡焦帕赫伏])"
_DECIMAL = rf"(?:\d[\d,]*(?:\.\d+)?(?:[万亿]|{_THOUSANDS})?|{_NUMERAL}(?:点[{''.join(_DIGITS)}]+)?)"
_FORM = re.compile(
    rf"(负)?(?:({_DECIMAL})又)?(?:(百分之)({_DECIMAL})|({_DECIMAL})(?:分之)({_DECIMAL})|(\d+)/(\d+)|(一?半)|({_DECIMAL}))"
    r"([个只块元年天]?半)?\s*(.*)",
    re.DOTALL,
)


def chinese(text: str) -> tuple[Fraction, bool, str] | None:
    """``"五个"`` -> (5, False, "个"), ``"百分之二十"`` -> (20, True, ""): the number, whether it is a percentage, and
    the rest; None when the text does not begin with a Chinese number."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    negative, whole, percent, percent_of, below, above, top, bottom, half, plain, and_half, rest = match.groups()
    if top:
        above, below = top, bottom
        if not whole:
            return None  # a plain fraction is for others to read
    if whole and not below:
        return None
    if percent:
        value = _read(percent_of)
    elif below:
        divisor = _read(below)
        if not divisor:
            return None
        value = _read(above) / divisor + (_read(whole) if whole else 0)
    elif half:
        value = Fraction(1, 2)
    else:
        value = _read(plain)
    if and_half:
        value += Fraction(1, 2)
    return (-value if negative else value), bool(percent), rest


def _read(numeral: str) -> Fraction:
    if numeral[0].isdigit() and numeral[0].isascii():
        scale = SCALES.get(numeral[-1], 1)
        return Fraction(numeral.rstrip("万亿千百").replace(",", "")) * scale
    whole, _, decimals = numeral.partition("点")
    value = Fraction(_read_whole(whole))
    if decimals:
        value += Fraction(int("".join(str(_DIGITS[c]) for c in decimals)), 10 ** len(decimals))
    return value


def _read_whole(numeral: str) -> int:
    if all(c in _DIGITS for c in numeral):  # "二〇二三": digits read out one by one
        return int("".join(str(_DIGITS[c]) for c in numeral))
    total, section, digit, last_unit = 0, 0, 0, 1
    for c in numeral:
        if c in _DIGITS:
            digit = _DIGITS[c]
            last_unit = last_unit if digit else 1
        elif c in _UNITS:
            section += (digit or 1) * _UNITS[c]
            digit, last_unit = 0, _UNITS[c]
        else:
            total, section, digit, last_unit = (total + section + digit) * _BIG[c], 0, 0, _BIG[c]
    # "三百五" is 350 and "一万二" 12,000: a bare digit at the end counts a tenth of the unit before it.
    if digit and last_unit > 10:
        digit *= last_unit // 10
    return total + section + digit
