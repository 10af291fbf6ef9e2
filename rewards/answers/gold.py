"""Reads a reference answer once: what kind of answer it is and in which form it is compared.

A reference answer may be text, a number, a truth value or a list. Text may still be wrapped in ``$...$``,
``\\boxed{}`` or ``<answer>`` tags, or be a worked solution that ends in ``#### 42`` (GSM8K). What no rule can use is
the data's fault.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rewards.answers import latex
from rewards.answers.box_iou import Box, read_boxes
from rewards.answers.choice import ChoiceGold, gold_choice
from rewards.answers.extract import last_box
from rewards.answers.normalize import clean, text_key
from rewards.answers.parts import parts
from rewards.answers.quantity import Parsed
from rewards.answers.structure import read

Mode = Literal["math", "choice", "count", "ocr", "box", "yes_no"]

_TASKS: dict[str, Mode] = {
    **dict.fromkeys(("choice", "multiple_choice", "mcq", "multi_choice", "multi-choice"), "choice"),
    **dict.fromkeys(("count", "counting"), "count"),
    **dict.fromkeys(("ocr", "text"), "ocr"),
    **dict.fromkeys(("box", "bbox", "grounding", "detection"), "box"),
    **dict.fromkeys(("yes_no", "yesno", "yes/no", "bool", "boolean", "judgement"), "yes_no"),
}

KNOWN_TASKS = frozenset((*_TASKS, "math", "open"))


class UnusableGold(Exception):
    """No rule can use this reference answer; the message is the reason word."""


@dataclass(frozen=True, slots=True, eq=False)
class Gold:
    """A reference answer ready for comparison. Compared by identity: one object per distinct reference answer."""

    mode: Mode
    text: str
    """As text, for exact comparison and for sympy."""
    parsed: Parsed | None = None
    choice: ChoiceGold | None = None
    boxes: tuple[Box, ...] = ()
    texts: tuple[str, ...] = ()
    """``text_key`` of each accepted text (OCR)."""

    @property
    def several(self) -> bool:
        """Whether the right answer consists of several parts, so that several boxes may be one answer."""
        if self.choice is not None:
            return len(self.choice.right) > 1
        if self.boxes:
            return len(self.boxes) > 1
        return self.parsed is not None and bool(self.parsed.items) and self.parsed.kind not in {"interval", "range"}


def gold_of(answer: object, task: str | None, choices: Sequence[str]) -> Gold:
    """The reading of one reference answer, remembered. Raises UnusableGold."""
    options = tuple(c if isinstance(c, str) else _text(c) for c in choices) if choices else ()
    kind = task if isinstance(task, str) else None
    if isinstance(answer, list | tuple | set | frozenset):
        if kind in _TASKS and _TASKS[kind] == "box":
            return _box_gold(_freeze(answer))
        if not answer:
            raise UnusableGold("gold_missing")
        items = sorted(answer, key=repr) if isinstance(answer, set | frozenset) else answer
        return _list_gold(tuple(_text(item) for item in items), kind, options)
    index = isinstance(answer, int) and not isinstance(answer, bool)
    return _gold(_text(answer), kind, options, index)


def _text(answer: object) -> str:
    """One reference answer as text."""
    if isinstance(answer, str):
        return answer
    if answer is None:
        raise UnusableGold("gold_missing")
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    if isinstance(answer, int):
        if answer.bit_length() > 3000:
            raise UnusableGold("gold_unusable")
        return str(answer)
    if isinstance(answer, float):
        if not math.isfinite(answer):
            raise UnusableGold("gold_unusable")
        return str(int(answer)) if answer.is_integer() and abs(answer) < 1e15 else repr(answer)
    if isinstance(answer, list | tuple):
        return "(" + ", ".join(_text(item) for item in answer) + ")"
    raise UnusableGold("gold_unusable")


def _freeze(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    return value


@lru_cache(maxsize=8192)
def _gold(raw: str, task: str | None, options: tuple[str, ...], index: bool) -> Gold:
    text = unwrap(raw)
    if not text:
        raise UnusableGold("gold_missing")
    mode = _TASKS.get((task or "").strip().lower())
    if mode == "box":
        return _box_gold(raw)
    if mode == "ocr":
        return Gold("ocr", text, texts=(text_key(text),))
    if options or mode == "choice" or (mode is None and _is_letter(text) and task != "math"):
        choice = gold_choice(int(text) if index else text, options)
        if choice is not None:
            return Gold("choice", text, choice=choice, parsed=_read(text))
        if options and mode == "choice":
            raise UnusableGold("gold_not_a_choice")
    parsed = _read("yes" if mode == "yes_no" and text.casefold() == "right" else text)
    if mode == "yes_no" and parsed.kind != "yes_no":
        raise UnusableGold("gold_unusable")
    if mode == "count" and (parsed.kind != "number" or parsed.value is None):
        mode = None
    if mode is None and parsed.kind == "yes_no":
        mode = "yes_no"
    return Gold(mode or "math", text, parsed=parsed)


@lru_cache(maxsize=4096)
def _list_gold(items: tuple[str, ...], task: str | None, options: tuple[str, ...]) -> Gold:
    texts = tuple(unwrap(item) for item in items)
    if not all(texts):
        raise UnusableGold("gold_missing")
    if len(texts) == 1:
        return _gold(texts[0], task, options, False)
    mode = _TASKS.get((task or "").strip().lower())
    whole = ", ".join(texts)
    if mode == "ocr":  # several readings of the same sign: any of them is right
        return Gold("ocr", texts[0], texts=tuple(text_key(t) for t in texts))
    if options or mode == "choice":
        right = [gold_choice(t, options) for t in texts]
        if any(r is None for r in right):
            raise UnusableGold("gold_not_a_choice")
        known = [r for r in right if r is not None]
        return Gold("choice", whole, choice=ChoiceGold(frozenset().union(*(r.right for r in known)), known[0].texts))
    return Gold("math", whole, parsed=Parsed("list", whole, items=tuple(_read(t) for t in texts)))


@lru_cache(maxsize=4096)
def _box_gold(raw: object) -> Gold:
    boxes = read_boxes(raw)
    if not boxes:
        raise UnusableGold("gold_unusable")
    return Gold("box", raw if isinstance(raw, str) else "", boxes=tuple(boxes))


def _read(text: str) -> Parsed:
    try:
        return read(text)
    except latex.TooLarge:
        return Parsed("text", text)


_LETTERED = re.compile(r"\(?[A-H](?:\)|[.:](?=\s))\s*\S.*", re.DOTALL)
_INITIAL = re.compile(r"[A-H]\. ?[^\W\d]+(?:[ .'-]+[^\W\d]+)*\.?")


def _is_letter(text: str) -> bool:
    """``B``, ``(B)``, ``B.``, ``B. 12 cm``: an option rather than an unknown, a name with an initial (``E. coli``) or
    an answer in parts (``A: 7, B: 2``)."""
    if _LETTERED.fullmatch(text):
        return _INITIAL.fullmatch(clean(text)) is None and parts(clean(text)) is None
    bare = clean(text)
    return (
        len(bare) <= 3
        and bare.strip("().").isalpha()
        and bare.strip("().") in "ABCDEFGH"
        and len(bare.strip("().")) == 1
    )


def unwrap(raw: str) -> str:
    """The final answer inside a reference answer."""
    text = raw.strip()
    if "####" in text:
        text = text.rpartition("####")[2].strip()
    if "<answer>" in text:
        text = text.rpartition("<answer>")[2].partition("</answer>")[0].strip()
    if "boxed" in text or "fbox" in text:
        text = last_box(text) or ("" if text.endswith("{}") else text)
    if len(text) > 1 and text[0] == "$" == text[-1] and "$" not in text[1:-1]:
        text = text[1:-1]
    return text.strip()
