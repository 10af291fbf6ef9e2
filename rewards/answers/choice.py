"""Multiple choice: the letter, the option's text, or both ("B. Paris"), through ``choices`` when they are given.

Several right options are a set, named by letters or texts in any order. An answer that names another number of options,
or a letter with the text of another option, is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rewards.answers import latex
from rewards.answers.compare import compare
from rewards.answers.normalize import clean, key, text_key
from rewards.answers.quantity import Parsed
from rewards.answers.structure import read

_LEAD = re.compile(
    r"(?:(?:so |thus |therefore,? )?(?:the |my )?(?:final |correct |right |best )?(?:answer|option|choice|ans|letter)s?"
    r"(?: (?:is|are|:))?[ :]*|应?选(?:项|择)?:?|答案?[是为选:]*|正确(?:答案|选项)[是为:]*|故选:?"
    r"|both |only |i choose |choose |it is |it's |i think (?:it is |it's )?)",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[(\[]?\s*([A-Za-z])\s*(?:[)\]]\s*[.:]?|[.:,)]|\s-(?=\s+[\w\\])|(?=\s|$))\s*(.*)", re.DOTALL)
_TRAIL = re.compile(
    r"\s*(?:选?项|都?(?:正确|对)的?"
    r"|(?<![A-Za-z])(?:(?:is|are) (?:both |all )?(?:the )?(?:correct|right|true)"
    r"(?: answers?| options?| choices?| ones?)?|\(?(?<!not )(?:correct|only)\)?|options?|choices?))\s*$",
    re.IGNORECASE,
)
_MARKS = re.compile(r"\\checkmark|\\[{}]|[✓✔]|\*\*|__|[$`]|(?<!\w)\*|\*(?!\w)")
_SEVERAL = re.compile(r"\s*(?:,|;|and|or|&|\+|/|和|或|与|[\s()\[\].])\s*", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*(?:[,;，；、\n]|(?<![A-Za-z])(?:and|or)(?![A-Za-z])|&|和|与|及)\s*", re.IGNORECASE)
_MAX_NAMED = 40
"""Pieces of an answer that names several options."""
_EXPLAINED = re.compile(
    r"(?<![A-Za-z])(?:because|since|as|so|therefore|due to|not|rather than|instead of)(?![A-Za-z])|因为|由于|而不是",
    re.IGNORECASE,
)
_ALSO = re.compile(
    r"(?:^|\W)(?:or|and|nor|maybe|perhaps|possibly|also)\W+(?:\w+\W+){0,3}?\(?[A-Z](?!\w)"
    r"|(?<![A-Za-z])[A-Z] (?:also|too|as well)(?![A-Za-z])|(?<![A-Za-z\\])\(?[A-H][.):](?=\s|$)"
)
"""Another option after the first: "or B", "B also", "B. tin"."""
_JUST_ANOTHER = re.compile(
    r"\W*(?:(?:to|through|thru|till|until|or|and|vs|versus|lor|land|cup)\W+)*(?:[A-H]|none|neither)\W*", re.IGNORECASE
)
_DENIED = re.compile(
    r"(?:is|was|isn't|can|can't|cannot)(?![A-Za-z]).{0,40}?"
    r"(?:wrong|incorrect|false|not|excluded|eliminated|ruled out|impossible)(?![A-Za-z])"
    r"|\((?:not correct|not right|wrong|incorrect|excluded|eliminated)\)|\(?(?:[✗✘×❌]|\\(?:times|xmark)(?![a-z]))\W*$",
    re.IGNORECASE,
)
"""What denies the option before it: "is wrong", "(incorrect)", "can be ruled out", a cross."""
_ALONE = re.compile(r"(?<![A-Za-z\\'])(?:[B-H](?![A-Za-z'])|A(?![A-Za-z']| [a-z]))")
_TEXT_THEN_LETTER = re.compile(r"(.+?)\s*\(\s*([A-Za-z])\s*\)")


@dataclass(frozen=True, slots=True)
class ChoiceGold:
    """The right options as indexes into ``texts`` (which is empty when the row gives no choices)."""

    right: frozenset[int]
    texts: tuple[str, ...]
    text: str = ""
    """The text beside a gold letter when there are no choices ("B. Paris")."""


def gold_choice(gold: str | int, choices: Sequence[str]) -> ChoiceGold | None:
    """The gold as options: an option's text, letters, "B. Paris", or a 0-based index; None when it is none of them."""
    texts = tuple(str(c) for c in choices)
    stripped = tuple(_without_letter(t, i) for i, t in enumerate(texts))
    if isinstance(gold, int):
        by_text = [i for i, t in enumerate(stripped) if key(clean(t)) == str(gold)]
        index = by_text[0] if by_text else gold
        return ChoiceGold(frozenset((index,)), stripped) if 0 <= index < len(texts) else None
    exact = [i for i, (t, s) in enumerate(zip(texts, stripped, strict=True)) if gold.strip() in {t.strip(), s.strip()}]
    if not exact:
        exact = [i for i, t in enumerate(stripped) if text_key(t) == text_key(gold)]
    if exact:
        return ChoiceGold(frozenset(exact[:1]), stripped)
    several = _letters(clean(gold), len(texts) or 26)
    if several:
        return ChoiceGold(frozenset(several), stripped)
    named = _named(clean(gold))
    if named is not None and (not texts or named[0] < len(texts)):
        return ChoiceGold(frozenset((named[0],)), stripped, named[1])
    if texts and len(gold.strip()) < 3 and gold.strip().isdecimal() and int(gold) < len(texts):
        return ChoiceGold(frozenset((int(gold),)), stripped)
    if texts:
        matching = _matching(gold, stripped)
        if len(matching) == 1:
            return ChoiceGold(frozenset(matching), stripped)
    return None


def answered(answer: str, gold: ChoiceGold) -> bool:
    """Whether ``answer`` names exactly the right options."""
    s = clean(answer).lstrip("= ")
    s = _TRAIL.sub("", clean(_MARKS.sub("", s))) if len(s) < 200 else s
    texts = gold.texts
    exact = [i for i, t in enumerate(texts) if text_key(t) == text_key(answer)]
    if exact:
        return gold.right <= frozenset(exact)
    several = _each_named(s, texts) if texts else None
    if several is not None:
        return gold.right == several
    named = _named(s)
    if named is not None:
        index, rest = named
        if not rest:
            return gold.right == {index}
        if texts:
            if index < len(texts):
                matching = _matching(rest, texts)
                if index in matching:
                    return gold.right == {index}
                if matching:
                    return False  # the letter of one option with the text of another
                if not _letters(s, len(texts)) and not _taken_back(rest) and not _ALONE.search(_claimed(rest)):
                    return gold.right == {index}
        elif gold.text:
            return gold.right == {index} and bool(compare(read(gold.text), read(rest)).equal)
        elif not _letters(s, 26) and not _taken_back(rest):
            return gold.right == {index}
    several = _letters(s, len(texts) or 26)
    if several:
        return gold.right == several
    reverse = _TEXT_THEN_LETTER.fullmatch(s)
    if reverse is not None:
        index = ord(reverse.group(2).upper()) - 65
        matching = _matching(reverse.group(1), texts)
        if index in matching or (not texts and not gold.text):
            return gold.right == {index}
    if texts:
        s = _claimed(s).rstrip(", ") or s  # "iron, not tin"
        matching = _matching(_LEAD.sub("", s, count=1) if _LEAD.match(s) else s, texts)
        return len(matching) == 1 and gold.right == frozenset(matching)
    return bool(gold.text) and bool(compare(read(gold.text), read(answer)).equal)


def _claimed(rest: str) -> str:
    """``rest`` up to where it explains, or says what is not the answer."""
    found = _EXPLAINED.search(rest)
    return rest if found is None else rest[: found.start()]


def _taken_back(rest: str) -> bool:
    """Whether what follows an option's letter names another option too, or denies this one."""
    claimed = _claimed(rest)
    return bool(_ALSO.search(claimed) or _JUST_ANOTHER.fullmatch(claimed) or _DENIED.match(rest))


def _named(s: str) -> tuple[int, str] | None:
    """The option letter that ``s`` begins with, and the text after it."""
    lead = _LEAD.match(s)
    body = s[lead.end() :].strip() if lead is not None else s
    if lead is not None and (again := _LEAD.match(body)) is not None:  # "the answer is option A"
        body = body[again.end() :].strip()
    match = _LETTER.fullmatch(body)
    if match is None:
        if lead is not None and len(body) == 1 and body.isalpha() and body.isascii():
            return ord(body.upper()) - 65, ""
        return None
    letter, rest = match.group(1), match.group(2).strip()
    marked = body[: match.end(1) + 1].strip()[-1:] in ").:,]" or body[0] in "(["
    if rest and not marked and not letter.isupper():
        return None  # "a dog"
    if re.match(r"[A-Za-z](?![A-Za-z])", rest) and body[match.end(1) : match.end(1) + 1] == ",":
        return None  # "A, B"
    if marked and rest.startswith("- "):  # "(B) - 7 cm"
        rest = rest[2:]
    if rest and rest[0] in "=+-*/^<>_":
        return None  # "x = 5", "A + B"
    return ord(letter.upper()) - 65, rest


def _letters(s: str, count: int) -> frozenset[int]:
    """The options of "A, C", "A and C", "AC"; empty when ``s`` is anything else."""
    lead = _LEAD.match(s)
    body = s[lead.end() :] if lead is not None else s
    parts = [p for p in _SEVERAL.split(body) if p]
    if len(parts) == 1 and parts[0].isupper() and parts[0].isalpha() and parts[0].isascii() and len(parts[0]) <= count:
        parts = list(dict.fromkeys(parts[0]))
        if len(parts) < len(body.strip()):
            return frozenset()
    if len(parts) < 2 or not all(len(p) == 1 and p.isascii() and p.isalpha() for p in parts):
        return frozenset()
    found = frozenset(ord(p.upper()) - 65 for p in parts)
    return found if max(found) < count else frozenset()


def _each_named(s: str, texts: Sequence[str]) -> frozenset[int] | None:
    """The options of "iron and gold", "D. gold, A. iron"; None when a part of it names no option. An option's own text
    may hold a comma or an "and"."""
    lead = _LEAD.match(s)
    s = s[lead.end() :] if lead is not None else s
    cuts = list(_BETWEEN.finditer(s))
    if not cuts or len(cuts) > _MAX_NAMED:
        return None
    starts, ends = [0, *(cut.end() for cut in cuts)], [*(cut.start() for cut in cuts), len(s)]
    found: set[int] = set()
    at = 0
    while at < len(starts):
        if starts[at] == ends[at]:  # ", and"
            at += 1
            continue
        for end in range(min(at + 4, len(starts)), at, -1):  # the longest piece that is an option
            index = _option(s[starts[at] : ends[end - 1]], texts, whole=end == at + 1)
            if index is not None:
                found.add(index)
                at = end
                break
        else:
            return None
    return frozenset(found)


def _option(piece: str, texts: Sequence[str], *, whole: bool) -> int | None:
    """The one option that ``piece`` names by its letter, its text or both. What is made of several pieces must be an
    option's very text."""
    if not whole:
        same = [i for i, text in enumerate(texts) if text_key(text) == text_key(piece)]
        return same[0] if len(same) == 1 else None
    reverse = _TEXT_THEN_LETTER.fullmatch(piece)
    if reverse is not None:
        index = ord(reverse.group(2).upper()) - 65
        return index if index in _matching(reverse.group(1), texts) else None
    named = _named(piece)
    if named is not None and named[0] < len(texts):
        index, rest = named
        if not rest or index in _matching(rest, texts):
            return index
    matching = _matching(piece, texts)
    return matching[0] if len(matching) == 1 else None


def _without_letter(text: str, index: int) -> str:
    """An option's text without its own letter: choices are often written "A. Paris"."""
    match = re.fullmatch(r"\s*\(?([A-Z])[).:：、]\s*(.+)", text, re.DOTALL)
    return match.group(2) if match is not None and ord(match.group(1)) - 65 == index else text


def _matching(text: str, texts: Sequence[str]) -> list[int]:
    """The options that say what ``text`` says; the closest reading wins."""
    wanted = text_key(text)
    exact = [i for i, t in enumerate(texts) if text_key(t) == wanted]
    if exact:
        return exact
    try:
        parsed = read(text)
    except latex.TooLarge:
        return []
    return [i for i, t in enumerate(texts) if _says(t, parsed)]


def _says(option: str, answer: Parsed) -> bool:
    try:
        return bool(compare(read(option), answer).equal)
    except latex.TooLarge:
        return False
