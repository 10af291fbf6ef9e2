"""Finds the options of a multiple-choice question in its text, and the question without them.

Knows the layouts data sets use: ``A. 3  B. 4``, ``(A) 3``, ``[a] 3``, ``A: 3``, ``A、3`` and LaTeX's
``\\textbf{(A)}``, one line or many, under a heading (``Choices:``, ``Options:``, ``选项：``) or not, and ``Choices: 3,
4`` for a known list.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from data_filters.reading import normalise

_OPEN = r"\\(?:textbf|mathbf|mathrm|text|rm|bf)\s*\{\s*|\*\*"
_CLOSE = r"(?:\s*\}|\*\*)?"
_MARKERS = {
    "bracketed upper": re.compile(rf"(?:{_OPEN}|(?<![\w\\]))[(\[（【]\s*([A-J])\s*[)\]）】]{_CLOSE}[.:：]?"),
    "bracketed lower": re.compile(rf"(?:{_OPEN}|(?<![\w\\]))[(\[（【]\s*([a-j])\s*[)\]）】]{_CLOSE}[.:：]?"),
    "plain upper": re.compile(
        rf"(?:{_OPEN}|(?<=\s)|(?<=[。？！；，）])|^)([A-J])\s?[.)．:：、）]{_CLOSE}", re.MULTILINE
    ),
    "plain lower": re.compile(rf"(?:{_OPEN}|(?<=\s)|^)([a-j])\s?[.)．:：、）]{_CLOSE}", re.MULTILINE),
}
_TITLE = r"(?:^|(?<=[\s.?!。？！]))(?:answer )?(?:choices|options|选项|选择项)(?: are)?[ ]?[:：]"
_HEADING = re.compile(_TITLE + r"$", re.IGNORECASE)
_LIST = re.compile(_TITLE + r"([^\n]+)$", re.IGNORECASE)

_WORD = re.compile(r"[^\W_]+")
_LEADS = frozenset(
    _WORD.findall(
        """answer select choose pick give provide write respond reply indicate mark circle output return please hint
        note instruction then"""
    )
)
"""First words of a request to answer with a letter."""
_FILLERS = _LEADS | frozenset(
    _WORD.findall(
        """the a an your with by from among of in to and or as for its it is that only directly just simply using use at
        end one single most correct right best suitable appropriate corresponding final response question answers
        following given provided above below listed e g i such four five b c d f h j option options choice choices
        alternative alternatives letter letters"""
    )
)
"""Words that say nothing about the problem."""
_SENTENCE_END = re.compile(r"(\n|(?<=[.?!。？！])[ \t])")
_CHINESE_INSTRUCTION = re.compile(
    r"请?从?(?:以下|下列|下面|给定的?|所给的?|四个|各){0,3}选项(?:中|里)[,，]?(?:选出|选择|选)[^。\n]{0,12}(?:答案|选项|一项)[。.]?"
    r"|请(?:直接)?(?:选择|选出|回答)[^。，\n]{0,10}(?:答案|选项|字母)[。.]?"
)
_SPACING = re.compile(r"\\(?:qquad|quad|hspace\{[^}]*\}|[ ,;!])|~|\\\\(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Options:
    """A question taken apart."""

    question: str
    """The text without its options, their heading and requests for a letter."""
    texts: tuple[str, ...]
    """The options in the order A, B, C, ..."""

    @property
    def letters(self) -> str:
        """The letters of the options, upper case."""
        return string.ascii_uppercase[: len(self.texts)]


def split_options(text: str, choices: Sequence[str] = ()) -> Options | None:
    """Takes a multiple-choice question apart.

    Args:
        text: the question, with or without its options.
        choices: the options, where the row has them; then the text need not.

    Returns:
        None when no options are found, or those in the text are not the given ones.
    """
    found = _labelled(text)
    if not choices:
        return found
    texts = _unlabelled([str(choice) for choice in choices])
    if found is not None and len(found.texts) == len(texts):
        same = all(normalise(a) == normalise(b) for a, b in zip(found.texts, texts, strict=True))
        return Options(found.question, texts) if same or not any(found.texts) else None
    stem = _without_instructions(text).strip()
    listed = _LIST.search(stem)
    if listed and all(normalise(choice) in normalise(listed[1]) for choice in texts):
        stem = stem[: listed.start()]
    return Options(stem.strip(), texts)


def clean_option(text: str) -> str:
    """An option without the spacing, separators and dollar signs around it."""
    text = _SPACING.sub(" ", text).strip().rstrip(",;，；、。").strip()
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip()
    if text.count("$") % 2:  # one dollar sign belonged to the whole list
        text = text[1:] if text.startswith("$") else text.removesuffix("$")
    if text.count("$") == 2 and text.startswith("$") and text.endswith("$"):
        text = text[1:-1]
    return text.strip()


def _unlabelled(choices: Sequence[str]) -> tuple[str, ...]:
    """Given options as texts, also when each repeats its own letter ("A. 3", "B. 4")."""
    labels = [next((m for p in _MARKERS.values() if (m := p.match(choice))), None) for choice in choices]
    if all(m and m[1].upper() == letter for m, letter in zip(labels, string.ascii_uppercase, strict=False)):
        choices = [choice[m.end() :] for choice, m in zip(choices, labels, strict=True) if m]
    return tuple(map(clean_option, choices))


def _without_instructions(text: str) -> str:
    """The text without requests to answer with a letter, as LLaVA, MathVista and others put around the options.

    A sentence goes only when it is made of such words alone: one that also says what is sought always stays.
    """
    sentences = _SENTENCE_END.split(_CHINESE_INSTRUCTION.sub("", text))
    return "".join("" if _is_instruction(sentence) else sentence for sentence in sentences)


def _is_instruction(sentence: str) -> bool:
    words = _words(sentence)
    return bool(words) and words[0] in _LEADS and _FILLERS.issuperset(words)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("'s", "").replace("’s", ""))


def _without_trailing_instruction(option: str) -> str:
    """The last option of a line without the request that follows it there."""
    pieces = option.split(" ")
    start = len(pieces)
    for place in range(len(pieces) - 1, 0, -1):
        words = _words(pieces[place])
        if not _FILLERS.issuperset(words):
            break
        if words and words[0] in _LEADS:
            start = place
    return " ".join(pieces[:start])


def _labelled(text: str) -> Options | None:
    runs = [run for pattern in _MARKERS.values() for run in _runs(pattern.finditer(text))]
    if not runs:
        return None
    run = max(runs, key=lambda r: (len(r), r[0].start()))
    stem = text[: run[0].start()]
    texts = [text[a.end() : b.start()] for a, b in pairwise(run)]
    last, _, after = text[run[-1].end() :].partition("\n")
    texts.append(_without_trailing_instruction(_CHINESE_INSTRUCTION.sub("", last)))
    stem = _close_dollar(_HEADING.sub("", _without_instructions(stem).strip()))
    question = " ".join(part for part in (stem, _without_instructions(after).strip()) if part)
    return Options(question, tuple(map(clean_option, texts)))


def _runs(markers: Iterable[re.Match[str]]) -> list[list[re.Match[str]]]:
    """Longest sequences A, B, C, ... of at least two markers."""
    runs: list[list[re.Match[str]]] = []
    for marker in markers:
        letter = marker[1].upper()
        if letter == "A":
            runs.append([marker])
        elif runs and letter == string.ascii_uppercase[len(runs[-1])]:
            runs[-1].append(marker)
    return [run for run in runs if len(run) > 1]


def _close_dollar(stem: str) -> str:
    stem = stem.rstrip()
    return stem[:-1].rstrip() if stem.endswith("$") and stem.count("$") % 2 else stem
