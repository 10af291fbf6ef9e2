"""Answers in words that are no numbers: yes and no, "no solution", infinity, all real numbers, "does not exist"."""

from __future__ import annotations

import re
from typing import Literal

from rewards.answers.normalize import text_key

_MAX_CHARS = 200
# "right" is also a direction: see ``verdict``.
_YES = "yes true correct yeah yep 是 是的 对 对的 正确 真 会 能 有 √ ✓ ✔ \\checkmark"
_NO = "no false incorrect wrong nope 否 不是 不 不对 错 错误 假 不会 不能 没有 × ✗ ✘"
YES, NO = frozenset(_YES.split()), frozenset(_NO.split())
_EMPTY = (
    r"\emptyset", r"\{\}", "{}", "empty set", "the empty set", r"\{\emptyset\}", "no solution", "no solutions",
    "no real solution", "no real solutions", "has no solution", "has no solutions", "has no real solution",
    "has no real solutions", "is empty", "no solutions exist", "no real roots", "has no real roots", "无解", "没有解",
    "没有实数解", "无实数解", "没有实数根", "无实数根", "空集",
)  # fmt: skip
_ENDLESS = (
    "infinitely many", "infinitely many solutions", "infinite solutions", "infinite number of solutions",
    "an infinite number of solutions", "has infinitely many solutions", "has infinite solutions",
    "has an infinite number of solutions", "无数解", "无数个解", "无数组解", "无穷多解", "无穷多个解", "无穷多组解",
    "有无数解", "有无数个解", "有无数组解", "有无穷多解", "有无穷多个解", "有无穷多组解",
)  # fmt: skip
_REALS = (
    r"\mathbb{R}", r"\mathbbR", r"\Re", "all real numbers", "all reals", r"(-\infty,\infty)", r"(-\infty,+\infty)",
    "全体实数",
)  # fmt: skip
_INFINITE = (r"\infty", r"+\infty", "infinity", "+infinity", "inf", "positive infinity", "无穷", "无穷大")
_MISSING = (
    "undefined", "does not exist", "doesn't exist", "do not exist", "dne", "not defined", "is undefined",
    "is not defined", "is dne", "不存在",
)  # fmt: skip
_MEANS = {
    **dict.fromkeys(_EMPTY, r"\emptyset"),
    **dict.fromkeys(_ENDLESS, "infinitely many solutions"),
    **dict.fromkeys(_REALS, r"\mathbb{R}"),
    **dict.fromkeys(_INFINITE, r"\infty"),
    **dict.fromkeys((r"-\infty", "-infinity", "-inf", "negative infinity", "负无穷"), r"-\infty"),
    **dict.fromkeys(_MISSING, "undefined"),
}
# A subject and what it has: only phrases that cannot be a part of another one.
_SENTENCE = re.compile(
    r"(?:(?:there (?:is|are)|with) |(?P<subject>.{1,100}?)"
    r"(?: (?=has |is |does |doesn't |do |dne$)|(?=无[解数穷实]|有无[数穷]|没有|不存在|空集)))(?P<said>.+)"
)
_DENIES = re.compile(
    r"(?<![a-z])(?:not|no|never|if|unless|when|or|but|maybe|false|untrue)(?![a-z])|n't|[不非若或]|如果"
)
_STATEMENT = re.compile(
    r"(?:(?:so|thus|therefore|hence),? )?(?:(?:this|that|it|(?:this |that |given )*(?:statement|claim|proposition|"
    r"assertion|conclusion|argument|equation|inequality|hypothesis|conjecture|answer)) is )?(?P<no>not )?"
    r"(?:(?P<yes>true|correct|right|valid)|(?:false|incorrect|wrong|invalid|untrue))"
    r"|(?:该|这个|此|这一|本)?(?:说法|命题|结论|判断|陈述|论断|答案)?是?(?P<no_zh>不)?"
    r"(?:(?P<yes_zh>正确|对|真)|(?:错误|错|假))(?:的|命题)?"
)
_LETTERS_SAY: dict[str, Literal["yes", "no"]] = {"y": "yes", "t": "yes", "n": "no", "f": "no"}
_SUBJECTS = frozenset(["it", "they", "he", "she", "the", "this", "that", "there", "because", "since", "we", "you", "i"])


def meaning(s: str) -> str | None:
    """What a phrase or a sentence says, in one spelling: ``\\emptyset`` for "The system has no solution"."""
    word = s.casefold().rstrip(".!")
    found = _MEANS.get(s) or _MEANS.get(word) or _MEANS.get(s.replace(" ", ""))
    if found is not None or len(s) > _MAX_CHARS:
        return found
    sentence = _SENTENCE.fullmatch(word)
    if sentence is None or _DENIES.search(sentence.group("subject") or ""):
        return None
    return _MEANS.get(sentence.group("said"))


def verdict(content: str) -> Literal["yes", "no", ""]:
    """The side that an answer takes: "Yes, it is", "This statement is not true"; nothing when both sides are in it."""
    key = text_key(content)
    if key in _LETTERS_SAY:
        return _LETTERS_SAY[key]
    said = _STATEMENT.fullmatch(key) if len(key) <= _MAX_CHARS else None
    if said is not None:
        denied, agreed = said.group("no") or said.group("no_zh"), said.group("yes") or said.group("yes_zh")
        return "no" if bool(denied) == bool(agreed) else "yes"
    first, *others = re.split(r"[\s,.;:!]+", key)
    if (first not in YES and first not in NO) or (key[len(first) :][:1] == " " and others[0] not in _SUBJECTS):
        return ""  # "no solution", "correct to two places"
    if any(word in {"no" if first in YES else "yes", "or", "maybe"} for word in others):
        return ""
    if any(part.strip() in (NO if first in YES else YES) for part in re.split(r"[,.;:!/]", key)):
        return ""  # "true, false"
    return "yes" if first in YES else "no"
