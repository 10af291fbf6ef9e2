"""Units of measure and counted nouns: what may follow a number.

Rule: units may be missing but not different. The same quantity in another unit of the same kind is not different
(150 cm is 1.5 m), so a known unit carries its dimension and its size. A counted noun ("5 apples") is a unit too; nouns
are the same when one description contains the other ("red apples" and "apples"). Chinese counters (5个) say nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Unit:
    """``dimension`` is empty for a counted noun, whose words are in ``words``; else sorted (base, power) pairs."""

    dimension: tuple[tuple[str, int], ...] = ()
    size: Fraction = Fraction(1)
    words: frozenset[str] = frozenset()


def _f(text: str) -> Fraction:
    return Fraction(text)


# dimension -> {spellings: size in the dimension's own base}
_TABLE: dict[str, dict[str, Fraction]] = {
    "length": {
        "m meter metre 米 公尺": _f("1"),
        "cm centimeter centimetre 厘米 公分": _f("1/100"),
        "mm millimeter millimetre 毫米": _f("1/1000"),
        "km kilometer kilometre 千米 公里": _f("1000"),
        "dm decimeter decimetre 分米": _f("1/10"),
        "nm nanometer nanometre 纳米": _f("1e-9"),
        "μm um micrometer micrometre micron 微米": _f("1e-6"),
        "in inch inches 英寸": _f("0.0254"),
        "ft foot feet 英尺": _f("0.3048"),
        "yd yard 码": _f("0.9144"),
        "mi mile 英里": _f("1609.344"),
    },
    "mass": {
        "kg kilogram kilo kgs 千克 公斤": _f("1"),
        "g gram gm 克": _f("1/1000"),
        "mg milligram 毫克": _f("1e-6"),
        "lb lbs pound 磅": _f("0.45359237"),
        "oz ounce 盎司": _f("0.028349523125"),
        "ton tonne 吨": _f("1000"),
        "斤": _f("1/2"),
    },
    "time": {
        "s sec second secs 秒": _f("1"),
        "ms millisecond 毫秒": _f("1/1000"),
        "min minute mins 分钟": _f("60"),
        "h hr hour hrs 小时 时": _f("3600"),
        "day 天 日": _f("86400"),
        "week wk wks 周 星期": _f("604800"),
    },
    "year": {
        "year yr yrs 年 岁": _f("1"),
        "month 月 个月": _f("1/12"),
        "decade": _f("10"),
        "century centuries": _f("100"),
    },
    "volume": {
        "l liter litre 升": _f("1"),
        "ml milliliter millilitre cc 毫升": _f("1/1000"),
        "gal gallon 加仑": _f("3.785411784"),
        "qt quart": _f("0.946352946"),
        "pt pint": _f("0.473176473"),
        "cup": _f("0.2365882365"),
    },
    "angle": {"^\\circ deg degree 度": _f("1")},
    "radian": {"rad radian 弧度": _f("1")},
    "celsius": {"^\\circ|c celsius 摄氏度": _f("1")},
    "fahrenheit": {"^\\circ|f fahrenheit 华氏度": _f("1")},
    "kelvin": {"k kelvin": _f("1")},
    "dollar": {"$ usd dollar us$ buck 美元": _f("1"), "cent ¢ 美分": _f("1/100")},
    "euro": {"€ eur euro 欧元": _f("1")},
    "pound sterling": {"£ gbp 英镑 pence": _f("1")},
    "yuan": {"元 yuan rmb cny 人民币 块 块钱 cn¥": _f("1"), "角": _f("1/10")},
    "yen": {"yen jpy 円 日元": _f("1")},
    "yuan or yen": {"¥ ￥": _f("1")},
    "rupee": {"₹ rs inr rupee": _f("1")},
    "won": {"₩ krw won": _f("1")},
    "force": {"n newton 牛 牛顿": _f("1"), "kn kilonewton": _f("1000")},
    "energy": {
        "j joule 焦耳 焦": _f("1"),
        "kj kilojoule 千焦": _f("1000"),
        "mj megajoule": _f("1e6"),
        "cal calorie 卡路里": _f("4.184"),
        "kcal kilocalorie 千卡": _f("4184"),
        "ev electronvolt": _f("1.602176634e-19"),
        "kilowatthour": _f("3.6e6"),
    },
    "power": {
        "w watt 瓦 瓦特": _f("1"),
        "kw kilowatt 千瓦": _f("1000"),
        "mw megawatt": _f("1e6"),
        "hp horsepower": _f("745.7"),
    },
    "pressure": {"pa pascal": _f("1"), "kpa kilopascal": _f("1000"), "atm atmosphere": _f("101325"), "mpa": _f("1e6")},
    "voltage": {"v volt 伏 伏特": _f("1"), "kv kilovolt": _f("1000"), "mv millivolt": _f("1/1000")},
    "current": {"a amp ampere 安 安培": _f("1"), "ma milliamp milliampere 毫安": _f("1/1000")},
    "resistance": {"Ω ω \\omega ohm 欧姆 欧": _f("1"), "kω kohm kilohm": _f("1000")},
    "charge": {"c coulomb 库仑": _f("1")},
    "frequency": {"hz hertz 赫兹": _f("1"), "khz kilohertz": _f("1000"), "mhz megahertz": _f("1e6"), "ghz": _f("1e9")},
    "amount": {"mol mole 摩尔": _f("1"), "mmol": _f("1/1000")},
    "data": {
        "byte": _f("1"),
        "kb kilobyte": _f("1000"),
        "mb megabyte": _f("1e6"),
        "gb gigabyte": _f("1e9"),
        "tb terabyte": _f("1e12"),
    },
    "bit": {"bit": _f("1")},
    "acre": {"acre 英亩": _f("1"), "hectare ha 公顷": _f("2.4710538146717")},
}
_SILENT = """
    个 只 条 本 张 头 匹 辆 座 棵 朵 支 枝 把 件 名 位 台 架 艘 颗 粒 片 双 对 根 顶 场 次 种 家 间 栋
    幢 盏 扇 幅 封 首 部 口 道 份 票 节 排 组 层 项 倍 题 步
    unit units time times in total altogether each total overall exactly approximately only left remaining th st nd rd
    us of the an one
"""
_NOTHING = frozenset(_SILENT.split())
"""Words that name no unit, alone or beside one."""
_SAME = {
    "person": "people", "persons": "people", "man": "men", "woman": "women", "child": "children", "kid": "children",
    "kids": "children", "mice": "mouse", "geese": "goose", "teeth": "tooth",
}  # fmt: skip
_KNOWN: dict[str, tuple[str, Fraction]] = {}
for _dimension, _row in _TABLE.items():
    for _names, _size in _row.items():
        for _name in _names.split():
            _KNOWN[_name] = (_dimension, _size)
            if _name.isascii() and _name.isalpha() and len(_name) > 2:
                _KNOWN[f"{_name}s"] = (_dimension, _size)
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cubed": 3, "平方": 2, "立方": 3}
_NOT_UNITS = """
    and or to not but plus minus than less more least most between either neither no if when maybe perhaps versus vs
    is are was be equals sin cos tan cot sec csc log ln exp sqrt pi lim i x y z true false yes infinity
    solutions? half quarter third percent hundred thousand million billion dozen
"""
_REFUSED = frozenset(_NOT_UNITS.split())
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SINGLE = frozenset("msghlLNJWVAKCΩ")
"""One-letter units, in their own case: "5 n" is no force and "2 x" no length."""
_ALIASES = {
    "mph": "mi/h", "kph": "km/h", "kmph": "km/h", "mps": "m/s", "degrees celsius": r"^\circ C", "kwh": "kilowatthour",
    "degrees centigrade": r"^\circ C", "degree celsius": r"^\circ C", "degrees fahrenheit": r"^\circ F",
    "degree fahrenheit": r"^\circ F", "degrees c": r"^\circ C", "degrees f": r"^\circ F", "sq. ": "sq ",
    "cu. ": "cubic ",
}  # fmt: skip
_ALIAS = re.compile("|".join(rf"\b{re.escape(k)}(?![a-z])" for k in _ALIASES), re.IGNORECASE)
_TOKEN = re.compile(
    r"\^\\circ(?:\s*[CF](?![a-zA-Z]))?|\^\{?(-?\d)\}?|平方|立方|[A-Za-zμΩ\u4e00-\u9fff]+\.?|\\mu|\\Omega|\\omega|[$€£¥¢₹₩]"
    r"|[/·*'-]|\\cdot|\\times|\s+"
)


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit | None:
    """The unit that ``text`` names, e.g. ``cm^{2}``, ``miles per hour``, ``red apples``; None when it names none.
    Words that say nothing (个, "in total") give an empty Unit."""
    if len(text) > 80:
        return None
    text = _FRACTION.sub(r"\1/\2", text).replace("每", "/") if "frac" in text or "每" in text else text
    text = _ALIAS.sub(lambda m: _ALIASES[m.group().lower()], text)
    powers: dict[str, int] = {}
    size = Fraction(1)
    words: set[str] = set()
    sign, pending, last, at = 1, 1, "", 0
    last_power = 1
    for match in _TOKEN.finditer(text):
        if match.start() != at:
            return None
        at = match.end()
        token = match.group().strip().rstrip(".")
        if not token or token in {"·", "*", "-", "'", "\\cdot", "\\times"}:
            continue
        power = match.group(1)
        if power is not None or token in {"squared", "cubed"}:
            n = int(power) if power is not None else _POWERS[token]
            if not last or not n:
                return None
            dimension, unit_size = _KNOWN[last]
            extra = last_power * n - last_power
            powers[dimension] = powers.get(dimension, 0) + extra
            size *= unit_size**extra
            continue
        if token in {"/", "per"}:
            sign = -1
            continue
        if len(token) == 1 and token.isascii() and token.isalpha() and token != "a" and token not in _SINGLE:
            return None
        name = token if token == "\\Omega" else "one" if token == "a" else token.lower()
        if name in _POWERS:
            pending = _POWERS[name]
            continue
        name = {"\\mu": "μ", "\\Omega": "ω", "^\\circ": "^\\circ"}.get(name, name)
        if name.startswith("^\\circ") and name[-1] in "cf" and len(name) > 6 and name != "^\\circ":
            name = "^\\circ|" + name[-1]
        if name in _REFUSED:
            return None
        known = _KNOWN.get(name)
        if known is None and name[0] == "个" and name[1:] in _KNOWN:  # 三个小时
            name = name[1:]
            known = _KNOWN[name]
        if known is None and not name.isascii():
            if name[0] in "和或与及到至不又":
                return None
            split = _split_counter(name)
            if split is None:
                return None
            words |= split
            continue
        if known is None:
            if name in _NOTHING:
                continue
            if len(name) < 3:
                return None
            words.add(_singular(name))
            continue
        dimension, unit_size = known
        last, last_power = name, sign * pending
        powers[dimension] = powers.get(dimension, 0) + last_power
        size *= unit_size**last_power
        pending = 1
    if at != len(text):
        return None
    dimension_key = tuple(sorted((d, p) for d, p in powers.items() if p))
    return Unit(dimension_key, size, frozenset(words))


def same_unit(gold: Unit | None, answer: Unit | None) -> Fraction | None:
    """The factor that turns a figure in the answer's unit into the gold's: 1 when either is missing, None when the
    units differ."""
    if gold is None or answer is None:
        return Fraction(1)
    if not (gold.dimension or gold.words) or not (answer.dimension or answer.words):
        return Fraction(1)  # one of them says nothing ("units", 个)
    if not gold.dimension or not answer.dimension:
        shared = gold.words and answer.words and (gold.words <= answer.words or answer.words <= gold.words)
        return Fraction(1) if shared else None
    if gold.dimension == answer.dimension:
        return answer.size / gold.size
    return (
        Fraction(1)
        if (gold.dimension, answer.dimension) in _ALIKE or (answer.dimension, gold.dimension) in _ALIKE
        else None
    )


def _one(name: str) -> tuple[tuple[str, int], ...]:
    return ((name, 1),)


_ALIKE = {
    (_one("angle"), _one("celsius")),
    (_one("angle"), _one("fahrenheit")),
    (_one("celsius"), _one("charge")),  # "25 C"
    (_one("yuan or yen"), _one("yuan")),
    (_one("yuan or yen"), _one("yen")),
    (_one("pound sterling"), _one("mass")),  # "5 pounds" may be money
    (_one("fahrenheit"), _one("farad")),
}


def _split_counter(name: str) -> frozenset[str] | None:
    """Chinese: a counter and a noun ("个苹果"), a counter, or a noun."""
    for cut in (2, 1):
        head, tail = name[:cut], name[cut:]
        if head in _NOTHING or (tail and head in _KNOWN):
            return frozenset({tail}) if tail and tail not in _NOTHING else frozenset()
    return frozenset({name}) if len(name) <= 12 else None


def _singular(word: str) -> str:
    word = _SAME.get(word, word)
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us")):
        return word[:-1]
    return word
