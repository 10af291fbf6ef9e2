"""Sentences that state one value: "There are 42 apples in total", 面积为36平方厘米.

Approved frames only: a subject, a verb that states ("is", "has", "costs") or a colon, then the value and nothing that
could not follow it by itself. A subject that negates, bounds, hedges or computes ("half of it is 7") states another
value. Nothing is picked out of the middle of a text.
"""

from __future__ import annotations

import re

from rewards.answers.words import NUMBER_WORDS

_MAX_CHARS = 300
_VERBS = """
    answer answered answers are ate attend attended attends bake baked bakes be became become becomes bought build
    builds built burn burned burns buy buys carried carries carry catch catches caught charge charged charges choose
    chooses chose climb climbed climbs collect collected collects complete completed completes consume consumed
    consumes contain contains cook cooked cooks cost costs count counted counts cover covered covers cut cuts deliver
    delivered delivers donate donated donates drank draw draws drew drink drinks drive drives drove earn earned earns
    eat eats equal equals exercise exercised exercises fed feed feeds fill filled fills find finds finish finished
    finishes form formed forms found gave get gets give gives got grew grow grows had has have hire hired hires hold
    holds include included includes invite invited invites is jump jumped jumps keep keeps kept last lasted lasts lift
    lifted lifts lose loses lost made make makes measure measured measures need needed needs order ordered orders owe
    owed owes own owned owns pack packed packs paid paint painted paints pass passed passes pay pays pick picked picks
    plant planted plants play played plays practice practiced practices produce produced produces raise raised raises
    ran read reads receive received receives rent rented rents require required requires ride rides rode run runs save
    saved saves saw score scored scores see sees select selected selects sell sells send sends sent serve served
    serves share shared shares shows sleep sleeps slept sold spend spends spent studied studies study swam swim swims
    take takes took totals travel traveled travelled travels use used uses visit visited visits walk walked walks was
    wash washed washes watch watched watches wear wears weigh weighed weighs were win wins won wore work worked works
    write writes wrote yields
"""
_STATES = frozenset(_VERBS.split())
_NEAR = re.compile(
    r"(?:(?:^|(?<=[\s,]))(?:about|approximately|around|roughly|exactly|only|just|now|altogether|in all|in total|"
    r"(?:a )?total of|equal to)\s+)++$",
    re.IGNORECASE,
)
_SO = frozenset(["so", "thus", "therefore", "hence", ","])
_DENIES = """
    no not nor never none nobody nothing neither cannot without except but or either if unless whether when suppose
    assume assuming let given maybe perhaps possibly probably could may might than less more fewer least
    most minus plus times divided twice thrice half double triple quadruple
"""
_DENIED = frozenset(_DENIES.split())
_RESULTS = "square squared cube cubed root reciprocal opposite inverse negative power multiple factor"
_COMPUTES = frozenset(_RESULTS.split())
"""Only as what is stated ("the square root is 4"), not as a part of it ("the square of it is 4")."""
_VALUE = re.compile(
    r"(?<![A-Za-z\\])[-+]?\s*(?:[$€£¥₹]\s*)?(?:\.?\d|\\(?:frac|sqrt|pi|infty)(?![a-zA-Z]))"
    rf"|\b(?:{'|'.join(sorted(NUMBER_WORDS))})\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*|[,:()]|\s+")
_AFTER = re.compile(
    r"\s+(?:is|are)\s+(?:the\s+|my\s+)?(?:(?:final|correct|right)\s+)?(?:answer|result|solution|correct|right)"
    r"|是(?:最终|正确)?(?:答案|结果)|是正确的"
)
_ZH = re.compile(
    r"([A-Za-z,()\u4e00-\u9fff]{0,40}?)(?:等于|约为|约是|为|是|有|共计?|得到?|约|:"
    r"|需要?|还?剩下?|花了?|用了?|买了?|卖了?|[走跑行吃]了|获得)\s*"
    r"(?=[-+]?[$¥]?\s*[\d\\(零一二两三四五六七八九十百千万亿负])"
)
_ZH_DENIES = re.compile(
    r"[不非没未无若半]|如果|假[如设]|或|可能|也许|除|[小大少多低高短长]于|超过|至[少多]|最[少多](?!值)|[平立]方|倍|倒数|相反数"
    r"|之[间前后]|以[上下内外]"
)


def stated(s: str) -> str | None:
    """The part of a sentence that is the value which it states; None when it is no such sentence."""
    if not s or len(s) > _MAX_CHARS:
        return None
    after = _AFTER.search(s)
    if after is not None and after.end() == len(s):
        return s[: after.start()]
    if not s[0].isascii() or not s.isascii():
        chinese = _ZH.match(s)
        if chinese is not None:
            return None if _ZH_DENIES.search(chinese.group(1)) else s[chinese.end() :]
    value = _VALUE.search(s)
    if value is None or not value.start() or not _states(s[: value.start()]):
        return None
    return s[value.start() :]


def _states(before: str) -> bool:
    """Whether the words before a value say that it is the value of something."""
    before = _NEAR.sub("", f"{before.rstrip()} ")
    tokens, at = [], 0
    for match in _TOKEN.finditer(before):
        if match.start() != at:
            return False
        at = match.end()
        if not match.group().isspace():
            tokens.append(match.group().lower())
    if at != len(before) or not tokens:
        return False
    if all(token in _SO for token in tokens):
        return True
    verb = tokens.pop()
    return (verb in _STATES or verb == ":") and _names(tokens)


def names(subject: str) -> bool:
    """Whether words before "=" or "is" name what the value is of: not "half of x", "not x", "if x"."""
    return _names(re.findall(r"[a-z']+", subject.lower())) and not _ZH_DENIES.search(subject)


def _names(tokens: list[str]) -> bool:
    while tokens and tokens[-1] in _COMPUTES:
        tokens.pop()
    return not any(t in _DENIED or t in _COMPUTES or t.endswith("n't") for t in tokens)
