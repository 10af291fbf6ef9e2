"""What is said about an unknown: a qualifier after an answer (``3n-2, n \\ge 1``), and all numbers with exceptions.
Pure text; ``structure`` reads it and ``realset`` gives it its meaning."""

from __future__ import annotations

import re

from rewards.answers.separators import outside

_NAME = r"(?:[A-Za-z]|\\(?:theta|alpha|beta|lambda|mu|phi|omega|gamma|delta))(?:_(?:\w|\{\w\}))?"
_NAMES = rf"{_NAME}(?: ?, ?{_NAME}){{0,3}}"
_SIGN = r"(?:\\(?:in|notin|ne|le|ge|gt|lt)(?![a-zA-Z])|[<>]=?|∈|∉)"
_ABOUT = re.compile(
    rf"(?P<names>{_NAMES}) ?(?:{_SIGN}|(?:is|are|being)(?![a-z])|为|是)|(?P<listed>{_NAME}) ?= ?-?\d+ ?,.*dots"
    rf"|[-\w./\\{{}}]+ ?(?:<=?|\\le(?![a-zA-Z])) ?(?P<between>{_NAME}) ?(?:<=?|\\le(?![a-zA-Z]))"
)
_KIND = re.compile(r"(?<![a-z])(?:reals?|integers?|numbers?|constants?|positive|negative|natural)|实数|整数|常数", re.I)
_WORDS = re.compile(
    r" ?[,;]? ?(?<![A-Za-z\\])(?:for(?: all| any| every| each| some)?|where|with|such that|provided(?: that)?|"
    r"as long as|whenever)(?![A-Za-z]) ?| ?[,;]? ?(?:\\forall(?![a-zA-Z])|其中|对(?:于)?(?:所有|任意|一切)的?) ?",
    re.I,
)
_EVERY = re.compile(r"all|any|every|each|forall|所有|任意|一切", re.I)
_ONE = re.compile(_NAMES)
_WHOLE = re.compile(
    rf"(?P<names>{_NAMES}) ?(?:(?:\\in(?![a-zA-Z])|∈) ?(?:\\mathbb ?)?\{{? ?[ZN](?![a-zA-Z])"
    r"|(?:is|are|\\in|∈) (?:an? |any |the |all |set of )*(?:positive |natural |non-?negative )?integer"
    r"|(?:为|是)?(?:任意)?整数)"
    rf"|integers? (?P<after>{_NAMES})(?![a-zA-Z])|整数 ?(?P<chinese>{_NAME})|(?P<listed>{_NAME}) ?= ?-?\d+ ?,.*dots"
)
_ALL_INTEGERS = re.compile(r"\\mathbb ?\{? ?Z|(?:\\in|∈) ?Z|integer|整数")
_SOME_INTEGERS = re.compile(r"positive|natural|negative|[<>]|\\[lg]e(?![a-zA-Z])|正|负|Z ?\}? ?[\^_]")
_SYMBOL = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
_EXCEPT = re.compile(
    r"(.*?)[,;]? ?(?:\\setminus(?![a-zA-Z])|\\backslash(?![a-zA-Z])|(?<![A-Za-z])(?:except(?:ing)?(?: for)?|excluding|"
    r"other than|but not|but|besides|apart from|not equal to)(?![A-Za-z])|(?<=\}) ?- ?(?=\\\{)) ?(.+)",
    re.I | re.S,
)
_NOT_IN = re.compile(r"[A-Za-z] ?\\notin(?![a-zA-Z]) ?(.+)", re.S)
_CHINESE_EXCEPT = re.compile(r"除了?(.+?)(?:以|之)?外的?(?:所有|全体|一切|任意)?的?实数")
_ALL = re.compile(
    r"(?:[A-Za-z] (?:is|can be|may be) )?(?:the set of )?(?:(?:all|any|every|each) )?(?:of )?(?:the )?"
    r"(?:real numbers?|reals|real values?|values?|real)(?: (?:of )?[A-Za-z])?"
    r"|(?:[A-Za-z] ?\\in ?)?(?:\\mathbb ?)?\{?R\}?",
    re.I,
)
_BOUNDS = {
    "greater than or equal to": r"\ge", "more than or equal to": r"\ge", "at least": r"\ge", "no less than": r"\ge",
    "not less than": r"\ge", "less than or equal to": r"\le", "at most": r"\le", "no more than": r"\le",
    "not more than": r"\le", "not greater than": r"\le", "greater than": ">", "more than": ">", "less than": "<",
    "fewer than": "<", "大于等于": r"\ge", "大于或等于": r"\ge", "不小于": r"\ge",
    "小于等于": r"\le", "小于或等于": r"\le", "不大于": r"\le", "大于": ">", "小于": "<",
}  # fmt: skip
_BOUNDED = re.compile(
    r"(?:(?:all )?(?:the )?(?:real )?(?:numbers|values)(?: (?:that|which))?(?: are)? |([A-Za-z]) ?(?:is |must be )?)?"
    rf"({'|'.join(_BOUNDS)}) ?([-\d\\].{{0,60}})",
    re.I,
)
_RELATES = re.compile(rf"{_SIGN}")


def qualified(s: str) -> tuple[str, str] | None:
    """An answer and what is said of its unknowns after it; None when nothing is."""
    if not (" " in s or "," in s or ";" in s or s.endswith(")")):
        return None
    outer = outside(s)
    word = _WORDS.search(outer)
    if word is not None:
        head, tail = s[: word.start()].strip(), s[word.end() :].strip()
        every = _EVERY.search(word.group()) is not None and _ONE.fullmatch(tail) is not None
        if head and (every or _ABOUT.match(tail) or _KIND.search(tail)):
            return head.rstrip(","), tail
    commas = [i for i, c in enumerate(outer) if c in ",;"]
    for at in commas:
        tail = s[at + 1 :].strip()
        about = _ABOUT.match(tail)
        if about is not None:
            head = s[:at].strip()
            fits = bool(head) and not _RELATES.search(outer[:at]) and _mentions(head, about)
            return (head, tail) if fits else None
    if outer.endswith(")") and "(" in outer:
        at = outer.rindex("(")
        head, tail = s[:at].strip().rstrip(","), s[at + 1 : -1].strip()
        tail = tail[word.end() :] if (word := _WORDS.match(tail)) is not None else tail
        about = _ABOUT.match(tail)
        if head and about is not None and not _RELATES.search(outer[:at]) and _mentions(head, about):
            return head, tail
    return None


def integers(condition: str) -> frozenset[str]:
    """The unknowns that ``condition`` declares to be integers."""
    found: set[str] = set()
    for match in _WHOLE.finditer(condition):
        found.update(name.strip() for name in next(filter(None, match.groups())).split(","))
    return frozenset(found)


def all_integers(*conditions: str) -> bool:
    """Whether a parameter runs through all integers, negative ones too, by every condition that is given."""
    given = [condition for condition in conditions if condition]
    return bool(given) and all(_ALL_INTEGERS.search(c) and not _SOME_INTEGERS.search(c) for c in given)


def excepted(s: str) -> tuple[str, str] | None:
    """A set of numbers and what is taken out of it: ``all real numbers except 3``; the set is empty for all numbers."""
    if not (" " in s or "\\" in s or "除" in s):
        return None
    chinese = _CHINESE_EXCEPT.fullmatch(s)
    if chinese is not None:
        return "", chinese.group(1)
    outside_of = _NOT_IN.fullmatch(s)
    if outside_of is not None:
        return "", outside_of.group(1)
    match = _EXCEPT.fullmatch(s)
    if match is None:
        return None
    base, removed = match.group(1).strip(), match.group(2).strip()
    removed = re.sub(r"(?:when |if |where |for |the (?:number|value|point)s? )+", "", removed)
    return ("" if _ALL.fullmatch(base) else base), removed


def bounded(s: str) -> tuple[str, str, str] | None:
    """An unknown, the sign of a bound and the bound: ``x``, ``\\ge`` and ``5`` for "at least 5"."""
    match = _BOUNDED.fullmatch(s)
    if match is None:
        return None
    return match.group(1) or "x", _BOUNDS[match.group(2).lower()], match.group(3)


def _mentions(head: str, about: re.Match[str]) -> bool:
    """Whether the answer contains every unknown that the qualifier is about."""
    letters = set(_SYMBOL.findall(head))
    names = next(filter(None, about.groups())).split(",")
    return all(name.strip().partition("_")[0] in letters for name in names)
