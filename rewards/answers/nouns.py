"""The words that may stand beside a number without changing what it says.

The rule: a number inside words is the answer only when every other word is a unit, a counted noun, an article or part
of an approved frame. Nouns are an open class (apples, students, moles of gas: no list is long enough), the words that
compute, negate, bound or hedge are a closed one. So a counted noun is any **plural** word outside of the closed class:
nearly all words that would change a number (squared, factorial, negative, binary, onwards) are no plurals, and those
that are (halves, dozens, thousandths, minus, times) are listed here. A singular noun may count at most one thing.
Chinese has no plurals; there a noun must follow a counter (个, 只), which is a closed class too.
"""

from __future__ import annotations

import re

from rewards.answers.words import NUMBER_WORDS

_CHANGES = """
    and or not no nor neither either none never but except excluding besides without unless if when whether maybe
    perhaps possibly probably likely almost nearly than less lesser more fewer greater larger smaller bigger higher
    lower least most minimum maximum above below over under up down beyond within between before after until till
    versus vs short off onwards upwards downwards exceeds plus minus times divided multiplied subtracted added over
    into squared cubed doubled tripled halved inverted negated reversed rounded excluded omitted square cube root
    roots power powers factorial factorials modulo mod log ln sin cos tan cot sec csc exp sqrt lim reciprocal
    reciprocals inverse inverses opposite opposites twice thrice percent double doubles triple triples quadruple
    fraction proportion pair pairs couple couples base bases binary octal hexadecimal decimal hex negative negatives
    remainder exponent is are was were be been am equal equals divides does do did has have had can could may might
    must shall should will would cannot exceeding i it he she we you they who whose which what how why where that as
    so such same other others another any some many much few several half true false yes infinity pi x y z
"""
CHANGES = frozenset(_CHANGES.split()) | NUMBER_WORDS
"""Words that compute, negate, bound or hedge, and the words that only sentences have."""
_SAYS_NOTHING = """
    units unit total altogether overall exactly approximately roughly about only left remaining remain remains all
    together tall long wide high deep thick old away apart ago today tomorrow yesterday
"""
SILENT = frozenset(_SAYS_NOTHING.split())
"""Words that add nothing to a count or a measure."""
LATER = frozenset(["to", "with", "by", "during", "after", "before", "through", "this", "next"])
"""What opens a tail only behind a noun or a unit: "3 hours to finish", but not "3 to the power"."""
DETERMINERS = frozenset(["the", "this", "these", "those", "his", "her", "its", "their", "our", "my", "your", "them"])
TAIL = frozenset(["of", "in", "on", "at", "from", "for"])
"""What opens a tail: where, when or of what something is counted. Its words are free, but for the closed class."""
EACH = frozenset(["per", "each", "every", "a", "an"])
_IRREGULAR = """
    people children men women feet teeth geese mice oxen sheep fish deer dice data media criteria series species
    cattle police staff aircraft spacecraft shrimp offspring cacti fungi alumni radii foci loci nuclei bacteria
    phenomena maxima minima extrema larvae vertices indices matrices persons
"""
_PLURALS = frozenset(_IRREGULAR.split())
_SAME = {
    "person": "people", "persons": "people", "man": "men", "woman": "women", "child": "children", "kid": "children",
    "kids": "children", "mice": "mouse", "geese": "goose", "teeth": "tooth",
}  # fmt: skip
_COUNTERS = """
    个 只 条 本 张 头 匹 辆 座 棵 朵 支 枝 把 件 名 位 台 架 艘 颗 粒 片 双 对 根 顶 场 次 种 家 间 栋 幢 盏 扇 幅 封
    首 部 口 道 份 票 节 排 组 层 项 倍 题 步 人 元 块 杯 瓶 盒 箱 袋 包 桶 盘 碗 串 束 堆 群 批 段 句 行 列 页 卷 册 枚
    株 尾 所 笔 轮 圈 趟 遍 班 队 桌 号 楼 级 环 局 盆 罐 筐 篮 筒 圆 发 员 格 处 款 套 样 类 滴 分 点 刻 代 届 期 户 副
"""
_COUNTER = frozenset(_COUNTERS.split())
_SILENT_ZH = frozenset(["左右", "共", "总共", "一共", "而已", "整"])
_CHANGES_ZH = re.compile(
    r"^的|不(?!同)|[非没未无或和与及至到除乘加减余多半几]|以[上下内外前后]|之[间内外前后和差积]|(?:次|平|立)方|次幂|分之|进制|根号"
    r"|[倍约因指底]数|相反数|倒数|绝对值|平均|百分"
)


def is_plural(word: str) -> bool:
    """Whether an English word (lower case) looks like the plural of a noun."""
    return word in _PLURALS or (len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")))


def singular(word: str) -> str:
    """The form in which two nouns are compared."""
    word = _SAME.get(word, word)
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us")):
        return word[:-1]
    return word


def plain_noun(text: str) -> bool:
    """Whether Chinese words after a counter or a unit leave the number as it is."""
    return _CHANGES_ZH.search(text) is None


def chinese_noun(text: str) -> frozenset[str] | None:
    """What a counter and its noun name ("个苹果", 人); None when ``text`` is no such thing. A counter says nothing."""
    if text in _SILENT_ZH:
        return frozenset()
    if text[0] not in _COUNTER or len(text) > 12:
        return None
    noun = text if text[0] == "人" else text[1:]
    if not plain_noun(noun):
        return None
    return frozenset({noun}) if noun and noun not in _SILENT_ZH else frozenset()
