"""The units of measure: spellings, dimension and size. Data only; ``units`` reads texts with it.

Symbols keep their case (mW is milli, MW is mega); names do not. A dimension is written as powers of bases, e.g.
``mass length2 time-2``; sizes count in metres, kilograms, seconds, amperes and moles, money in whole units.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple, TypeAlias

Dimension: TypeAlias = tuple[tuple[str, int], ...]
"""Sorted (base, power) pairs."""


class Known(NamedTuple):
    """One unit. ``country`` is set for one kind of dollar among several."""

    dimension: Dimension
    size: Fraction
    country: str = ""


_PREFIXES = {
    "p": ("pico", "皮", "1e-12"),
    "n": ("nano", "纳", "1e-9"),
    "μ": ("micro", "微", "1e-6"),
    "u": ("micro", "微", "1e-6"),
    "m": ("milli", "毫", "1e-3"),
    "c": ("centi", "厘", "1e-2"),
    "d": ("deci", "分", "1e-1"),
    "h": ("hecto", "百", "1e2"),
    "k": ("kilo", "千", "1e3"),
    "M": ("mega", "兆", "1e6"),
    "G": ("giga", "吉", "1e9"),
    "T": ("tera", "太", "1e12"),
}
# symbols, English names, Chinese names, dimension, size, prefixes in use
_METRIC = (
    ("m", "meter metre", "米", "length", "1", "pnμumcdkMG"),
    ("g", "gram", "克", "mass", "1/1000", "nμumkM"),
    ("s", "second sec secs", "秒", "time", "1", "pnμum"),
    ("h", "", "", "time", "3600", ""),
    ("L l", "liter litre", "升", "length3", "1/1000", "μumcdM"),
    ("mol", "mole", "摩尔", "amount", "1", "nμumk"),
    ("M", "", "", "amount length-3", "1000", "nμum"),
    ("A", "amp ampere", "安 安培", "current", "1", "nμumkM"),
    ("K", "kelvin", "开尔文", "kelvin", "1", "m"),
    ("N", "newton", "牛 牛顿", "mass length time-2", "1", "μumkM"),
    ("J", "joule", "焦 焦耳", "mass length2 time-2", "1", "nμumkMGT"),
    ("W", "watt", "瓦 瓦特", "mass length2 time-3", "1", "nμumkMGT"),
    ("Pa", "pascal", "帕 帕斯卡", "mass length-1 time-2", "1", "mhkMG"),
    ("V", "volt", "伏 伏特", "mass length2 time-3 current-1", "1", "nμumkM"),
    ("C", "coulomb", "库仑", "time current", "1", "pnμumk"),
    ("F", "farad", "法拉", "mass-1 length-2 time4 current2", "1", "pnμum"),
    ("Ω", "ohm", "欧 欧姆", "mass length2 time-3 current-2", "1", "μumkMG"),
    ("T", "tesla", "特斯拉", "mass time-2 current-1", "1", "nμum"),
    ("H", "henry", "亨利", "mass length2 time-2 current-2", "1", "nμum"),
    ("Wb", "weber", "韦伯", "mass length2 time-2 current-1", "1", "m"),
    ("Hz", "hertz", "赫兹 赫", "time-1", "1", "mkMGT"),
    ("eV", "electronvolt", "电子伏特", "mass length2 time-2", "1.602176634e-19", "mkMGT"),
    ("cal", "calorie", "卡路里 卡", "mass length2 time-2", "4.184", "k"),
    ("B", "byte", "字节", "data", "8", "kMGT"),
    ("bit", "bit", "比特", "data", "1", "kMGT"),
)
# dimension -> {spellings, in any case: size}
_OTHERS = {
    "length": {
        "inch inches in 英寸": "0.0254", "foot feet ft 英尺": "0.3048", "yard yd 码": "0.9144",
        "mile mi 英里": "1609.344", "micron": "1e-6", "公里": "1000", "公尺": "1", "公分": "1/100", "里": "500",
    },
    "length2": {"hectare ha 公顷": "10000", "acre 英亩": "4046.8564224", "亩": "2000/3"},
    "length3": {
        "cc": "1e-6", "gallon gal 加仑": "0.003785411784", "quart qt": "0.000946352946", "pint pt": "0.000473176473",
        "cup": "0.0002365882365",
    },
    "mass": {
        "gm": "1/1000", "kilo kgs 公斤": "1", "pound lb lbs 磅": "0.45359237", "ounce oz 盎司": "0.028349523125",
        "ton tonne 吨": "1000", "斤": "1/2",
    },
    "time": {
        "minute min mins 分钟": "60", "hour hr hrs 小时 时": "3600", "day 天 日": "86400",
        "week wk wks 周 星期": "604800",
    },
    "year": {"year yr yrs 年 岁": "1", "month 月 个月": "1/12", "decade": "10", "century centuries": "100"},
    "mass length2 time-3": {"horsepower hp": "745.7"},
    "mass length-1 time-2": {"atmosphere atm": "101325", "mmhg": "133.322387415"},
    "angle": {"^\\circ degree deg 度": "1", "arcminute arcmin": "1/60", "arcsecond arcsec": "1/3600"},
    "radian": {"radian rad 弧度": "1"},
    "celsius": {"^\\circ|c celsius 摄氏度": "1"},
    "fahrenheit": {"^\\circ|f fahrenheit 华氏度": "1"},
    "dollar": {"$ dollar buck": "1", "¢ cent": "1/100"},
    "euro": {"€ eur euro 欧元": "1"},
    "sterling": {"£ gbp 英镑": "1", "pence penny": "1/100"},
    "yuan": {"元 yuan rmb cny 人民币 块 块钱 cn¥": "1", "角": "1/10"},
    "yen": {"yen jpy 円 日元": "1"},
    "yuan-or-yen": {"¥ ￥": "1"},
    "rupee": {"₹ rs inr rupee": "1"},
    "won": {"₩ krw won": "1"},
    "real": {"r$ brl": "1"},
    "prime": {"'": "1"},
    "double-prime": {"'' \"": "1"},
}  # fmt: skip
# country -> how its dollar is written
_DOLLARS = {
    "US": "us$ usd 美元 美金", "AU": "a$ au$ aud 澳元", "CA": "c$ ca$ cad 加元", "HK": "hk$ hkd 港元 港币",
    "NZ": "nz$ nzd 新西兰元", "SG": "s$ sg$ sgd 新加坡元", "TW": "nt$ twd 台币 新台币", "MX": "mx$ mxn 墨西哥比索",
}  # fmt: skip
# When symbols differ in case only, what a spelling in neither's case means. Where there is no usual one: nothing.
_USUAL = {
    "mhz": "MHz", "mpa": "MPa", "mev": "MeV", "mv": "mV", "ma": "mA", "mm": "mm", "nm": "nm", "mg": "mg", "ml": "mL",
    "pa": "Pa",
}  # fmt: skip


def known(token: str) -> Known | None:
    """The unit that one symbol, word or sign names. A single letter counts in its own case only ("5 n" is no force)."""
    if token in _SYMBOLS or (len(token) == 1 and token.isascii() and token.isalpha()):
        return _SYMBOLS.get(token)
    lower = token.lower()
    symbol = _FOLDED.get(lower, "")
    if symbol[1:] == token[1:] and token[:1] in {"m", "M", "p", "P"}:
        symbol = ""  # only the prefix is in the other case: "MF" is no "mF"
    return _NAMES.get(lower) or _SYMBOLS.get(symbol)


def _dimension(text: str) -> Dimension:
    parts = (re.fullmatch(r"(.+?)(-?\d)?", part) for part in text.split())
    return tuple(sorted((part.group(1), int(part.group(2) or 1)) for part in parts if part))


def _metric() -> tuple[dict[str, Known], dict[str, Known]]:
    symbols: dict[str, Known] = {}
    names: dict[str, Known] = {}
    for short, english, chinese, dimension, size, prefixes in _METRIC:
        base = Known(_dimension(dimension), Fraction(size))
        symbols |= dict.fromkeys(short.split(), base)
        names |= dict.fromkeys((*english.split(), *chinese.split()), base)
        for prefix in prefixes:
            word, sign, factor = _PREFIXES[prefix]
            unit = base._replace(size=base.size * Fraction(factor))
            symbols |= {prefix + symbol: unit for symbol in short.split()}
            names |= {word + name: unit for name in english.split()} | {sign + name: unit for name in chinese.split()}
    return symbols, names


def _folded() -> dict[str, str]:
    """Symbols by their lower case, as far as that leaves one meaning."""
    spellings: dict[str, list[str]] = {}
    for symbol in _SYMBOLS:
        spellings.setdefault(symbol.lower(), []).append(symbol)
    alone = {lower: all_[0] for lower, all_ in spellings.items() if len({_SYMBOLS[symbol] for symbol in all_}) == 1}
    return alone | _USUAL


_SYMBOLS, _NAMES = _metric()
for _base, _rows in _OTHERS.items():
    for _spellings, _size in _rows.items():
        _NAMES |= dict.fromkeys(_spellings.split(), Known(_dimension(_base), Fraction(_size)))
for _country, _spellings in _DOLLARS.items():
    _NAMES |= dict.fromkeys(_spellings.split(), Known(_dimension("dollar"), Fraction(1), _country))
_NAMES |= {f"{name}s": unit for name, unit in _NAMES.items() if name.isascii() and name.isalpha() and len(name) > 2}
_FOLDED = _folded()
