"""Finds the final answer of a response: the part after the thinking, and the boxes that count in it.

The rule: the final answer is the last box after the last ``</think>``, or of the whole response without a think tag.
There is none when a ``<think>`` never closes, and none after an end-of-turn token. Boxes joined only by connectors are
one list. Boxes offered as alternatives are no answer; after a correction the last box counts. An unclosed or an empty
box is no box.

The scan goes forward once, so its cost is linear in the response whatever it holds. In a response of more than
``MAX_SCAN`` characters, boxes count that lie within half as many of the start of the last one.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

from rewards.answers.normalize import FONTS
from rewards.answers.parts import LABEL

ExtractStatus = Literal["ok", "no_box", "unclosed", "empty", "unclosed_think"]

OPEN, CLOSE = "<think>", "</think>"
_TURNS = """
    <|im_end|> <|endoftext|> <|end_of_text|> <|eot_id|> <|eom_id|> <|end|> <|return|> <|eos|> <end_of_turn> <eos>
    <｜end▁of▁sentence｜> </s>
"""
END_OF_TURN = tuple(_TURNS.split())
_END = re.compile("|".join(map(re.escape, END_OF_TURN)))

# One token of the brace scan. A backslash takes the next character with it, so "\{" and "\}" never count as braces
# while the brace after "\\" does.
_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
# What shows nothing: spaces, bare braces, math delimiters, spacing commands, and the name of a font or a colour, whose
# braces are then judged by what they hold.
_BLANK = re.compile(
    r"(?:[\s{}~$\u200b-\u200d\u2060\ufeff]|\\[,;:!>()\[\] \\]|\\[hv](?:space|skip)\*?\s*\{[^{}]*\}"
    r"|\\(?:q?quad|enspace|thinspace|strut|displaystyle|[hv]fill|newline|null|relax|space)(?![a-zA-Z])|\\?_"
    r"|\\rule\s*\{[^{}]*\}\s*\{[^{}]*\}|\\(?:f?boxed|[fm]\w*box)\s*(?:\[[^\]]*\]\s*)?(?=\{)|\\[hv]?phantom\s*\{[^{}]*\}"
    rf"|\\(?:text)?color\s*\{{\w*\}}|\\(?:{FONTS})\s*(?=\{{))*+"
)

_SEEN = re.compile("[^\\s\u200b\u200c\u200d\u2060\ufeff]")

_WORDS_JOIN = r"and|or|as well as|以及|或者|和|或|与|及"
_JOIN_ATOM = (
    r"[\s,;.、，；。&•*$/|]|\\q?quad\b|\\[,;: ]|\\[()\[\]]|\\\\|"
    rf"\\(?:text|mathrm|textbf)\s*\{{\s*(?:{_WORDS_JOIN}|,)\s*\}}|(?<![A-Za-z])(?:{_WORDS_JOIN})(?![A-Za-z])|"
    r"(?:(?<=\n)|(?<=\n )|(?<=\n  ))(?:-|\d[.)])\s|(?<=\s)\([a-e1-9]\)\s"
)
_JOINED = re.compile(rf"(?:{_JOIN_ATOM})*+", re.IGNORECASE)
# "x = \boxed{1}, y = \boxed{2}": a connector and the name of the next unknown.
_JOINED_LABEL = re.compile(rf"(?:{_JOIN_ATOM})*+[A-Za-z](?:_\{{?\w\}}?)?\s*=\s*\$?", re.IGNORECASE)

_NAME_BEFORE = re.compile(r"([A-Za-z](?:_\{?\w\}?)?)\s*=\s*\$?\Z")
# "(b) \boxed{2}" and "Part (b): ... so it is \boxed{2}".
_PART_BEFORE = re.compile(rf"(?<![A-Za-z])(?:\(({LABEL})\)|({LABEL})\)|({LABEL})\s?:)[\s:*$]*\Z", re.IGNORECASE)
_PART_LINE = re.compile(
    rf"(?:^|(?<=[.;!?] ))[ \t*#>-]*(?:part[ \t]+)?"
    rf"(?:\(({LABEL})\)|([a-h])\)|([1-9])[.)](?=[\s*$])|(?<=part )({LABEL})(?![A-Za-z\d]))",
    re.IGNORECASE | re.MULTILINE,
)
_PART_NAMED = re.compile(rf"(?<=\s)\(({LABEL})\)(?=\s)", re.IGNORECASE)

_CORRECTS = re.compile(
    r"\b(?:wait|actually|correct(?:ion|ed|ing)?|mistake\w*|error|wrong|sorry|oops|hmm+|instead|rather|let me|let's|"
    r"re-?check\w*|double[- ]check\w*|re-?examin\w*|re-?calculat\w*|reconsider\w*|apolog\w*|revis\w*|updated?|"
    r"should be|second thought|final|finally|scratch that|i mean|no)\b"
    r"|等等|不对|更正|应该|应为|错|重新|最终|最后|纠正",
    re.IGNORECASE,
)
# Narrow on purpose: "if", "another" or a distant "or" belong to ordinary reasoning between a boxed step and the answer.
_HEDGES = re.compile(
    r"\b(?:vs|versus|maybe|perhaps|possibly|possibility|possible (?:answer|solution)s?|alternatively|alternative|"
    r"(?:could|might|may) (?:also )?be|otherwise|not sure|unsure)\b|\bor\b[^.!?。\n]{0,30}$|或|可能|也许|要么",
    re.IGNORECASE,
)
_ANNOUNCES = re.compile(
    r"\b(?:answers?|options?|choices?|solution|guess|try|attempt|candidate|possibility|"
    r"cases?)\b|答案|选项|选择|情况",
    re.IGNORECASE,
)
_DENIES = re.compile(r"\b(?:not|rather than|instead of|isn't)\s*\$?\s*$|(?:不是|而非)\s*\$?$", re.IGNORECASE)
_EMPTY_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{\s*\}")
MAX_SCAN = 200_000
"""Characters. Longer answers are no longer read whole: a token of the brace scan costs 0.2 microseconds."""
_MANY = 256
"""Most boxes that are looked at, counted from the end."""
_SHORT = 100
"""Characters. Two boxes with more text than this between them have reasoning between them: the last one counts."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """The boxes that count. ``boxes`` holds the last run of boxes joined by connectors (mostly one), ``rivals`` the
    earlier boxes that the response offers as other answers without taking them back."""

    status: ExtractStatus
    boxes: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    labelled: bool = False
    """The run is joined by connectors and names of unknowns (``x = \\boxed{1}, y = \\boxed{2}``); they are in
    ``boxes`` where each box has its own."""


def answer_part(response: str, prefix: str = "") -> tuple[str, int] | None:
    """The text that may hold the final answer and where the model's own part of it starts; None when a ``<think>``
    never closes. ``prefix`` is what the chat template had already written of the response."""
    response = response[: end_of_turn(response)]
    text, own = (prefix + response, len(prefix)) if prefix else (response, 0)
    closed = text.rfind(CLOSE)
    start = closed + len(CLOSE) if closed >= 0 else 0
    if text.find(OPEN, start) >= 0:
        return None
    return text[start:], max(0, own - start)


def end_of_turn(response: str) -> int:
    """Where the model ended its turn: the index of the first end-of-turn token, or the length."""
    end = _END.search(response) if "<" in response else None
    return len(response) if end is None else end.start()


def extract(response: str, prefix: str = "") -> Extraction:
    """The final answer of ``response`` by the rule above. Linear, never raises."""
    part = answer_part(response, prefix)
    if part is None:
        return Extraction("unclosed_think")
    text, own = part
    spans, unclosed = _boxes(text)
    spans = spans[-_MANY:]
    spans = [span for span in spans if span[2] > own]  # a box inside the template's own words is not an answer
    filled = [span for span in spans if not is_blank(text[span[1] : span[2] - 1])]
    if not filled:
        return Extraction("empty" if spans else "unclosed" if unclosed else "no_box")
    # "The answer is 4, not 3": a box that the text itself denies is no answer.
    filled = [span for span in filled if not _DENIES.search(text[max(0, span[0] - 20) : span[0]])] or filled
    contents = [_unnest(text[inner : end - 1]) for _, inner, end in filled]
    run = len(filled) - 1
    labelled = False
    while run > 0:
        between = _between(text, filled, run)
        if len(between) > _SHORT:
            break
        if not _JOINED.fullmatch(between):
            if not _JOINED_LABEL.fullmatch(between):
                break
            labelled = True
        run -= 1
    first = _rivals_from(text, filled, run)
    boxes = contents[run:]
    if labelled:
        names = [_NAME_BEFORE.search(text[max(0, start - 20) : start]) for start, _, _ in filled[run:]]
        if all(names) and not any("=" in box for box in boxes):
            boxes = [f"{name.group(1)}={box}" for name, box in zip(names, boxes, strict=True) if name]
    return Extraction("ok", tuple(boxes), tuple(contents[first:run]), labelled)


def extract_parts(response: str, prefix: str = "") -> str | None:
    """The boxes of an answer in parts with their labels, ``(a) 7; (b) 2``, the last box of each label. A label stands
    between its box and the box before. None without two labelled boxes."""
    part = answer_part(response, prefix)
    if part is None:
        return None
    text = part[0]
    found: dict[str, str] = {}
    label, last, marked = "", part[1], 0
    for start, inner, end in _boxes(text)[0][-_MANY:]:
        if start >= last and not is_blank(text[inner : end - 1]):
            gap = text[max(last, start - MAX_SCAN) : start]
            label = _part(gap)
            found[label] = _unnest(text[inner : end - 1])
            last, marked = end, marked + bool(label)
    if not label or marked < 2:
        return None
    return "; ".join(f"({name}) {box}" for name, box in found.items() if name)


def _part(gap: str) -> str:
    """The label of the box that follows ``gap``: right before it, else the last one that begins a line or a sentence,
    else the only one."""
    mark = _PART_BEFORE.search(gap[-20:])
    begun = [mark] if mark is not None else list(_PART_LINE.finditer(gap))[-1:]
    if begun:
        return str(next(filter(None, begun[0].groups())))
    named = set(_PART_NAMED.findall(gap))
    return named.pop() if len(named) == 1 else ""


def can_be_seen(text: str) -> bool:
    """Whether ``text`` holds anything but white space and characters of no width."""
    return _SEEN.search(text) is not None


def is_blank(content: str) -> bool:
    """Whether a box holds nothing a reader could see."""
    return _BLANK.fullmatch(content) is not None


def has_filled_box(text: str) -> bool:
    """Whether ``text`` holds at least one closed, non-empty box."""
    return any(not is_blank(text[inner : end - 1]) for _, inner, end in _boxes(text)[0])


def last_box(text: str) -> str | None:
    """The content of the last closed box of ``text``, e.g. of a reference solution."""
    spans = _boxes(text)[0]
    return _unnest(text[spans[-1][1] : spans[-1][2] - 1]) if spans else None


def _boxes(text: str) -> tuple[list[tuple[int, int, int]], bool]:
    """Outermost closed boxes as (start, start of content, end), in order, and whether any box stays open."""
    found: list[tuple[int, int, int]] = []
    stack: list[tuple[int, int] | None] = []
    open_boxes = 0
    start, stop = _window(text)
    match = _BOX.search(text, start, stop)
    while match is not None:
        at = match.end()
        stack.append((match.start(), at))
        open_boxes += 1
        for token in _TOKEN.finditer(text, at, stop):
            word = token.group()
            if word == "}":
                top = stack.pop()
                if top is not None:
                    open_boxes -= 1
                    # A box around earlier boxes swallows them: only the outermost closed box is kept.
                    while found and found[-1][0] > top[0]:
                        found.pop()
                    found.append((*top, token.end()))
                if not stack:
                    at = token.end()
                    break
            elif word == "{":
                stack.append(None)
            elif len(word) > 2:
                stack.append((token.start(), token.end()))
                open_boxes += 1
        else:
            break  # the end of the text with something still open
        match = _BOX.search(text, at, stop)
    return found, open_boxes > 0


def _window(text: str) -> tuple[int, int]:
    """Where boxes are looked for: everywhere, or around the last one."""
    if len(text) <= MAX_SCAN:
        return 0, len(text)
    last = deque(_BOX.finditer(text), maxlen=1)
    middle = last[0].start() if last else 0
    return max(0, middle - MAX_SCAN // 2), middle + MAX_SCAN // 2


def _unnest(content: str) -> str:
    return (_BOX.sub("{", content) if "box" in content else content).strip()


def _between(text: str, spans: list[tuple[int, int, int]], i: int) -> str:
    """What is written between box ``i`` and the box before it."""
    between = text[spans[i - 1][2] : spans[i][0]]
    return _EMPTY_BOX.sub("", between) if "box" in between else between


def _rivals_from(text: str, spans: list[tuple[int, int, int]], run: int) -> int:
    """Index of the first box that competes with the run starting at ``run``; ``run`` itself when none does."""
    first = run
    while first > 0:
        between = _between(text, spans, first)
        if len(between) > _SHORT or _CORRECTS.search(between):
            break
        if not _HEDGES.search(between) and not _JOINED.fullmatch(between):
            # Two plain announcements in a row ("Answer: [3] Answer: [4]") are a spray; a box that was never called
            # the answer is a boxed step on the way to the last one.
            before = text[max(0, spans[first - 1][0] - _SHORT) : spans[first - 1][0]]
            line = re.split(r"[\n.。!?]", before)[-1]
            if not (_ANNOUNCES.search(between) and _ANNOUNCES.search(line)):
                break
        first -= 1
    return first
