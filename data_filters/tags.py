"""One form for every source of chains of thought: ``<think> ... </think>`` and then the answer with its ``\\boxed{}``.

Source: SAIL-VL2 (arXiv 2509.14033) section 4.2.2: system prompts and conflicting hints are stripped, tags unified,
and the form validated. Which tags the sources use is from their public files (LLaVA-CoT, Bespoke/OpenThoughts, GSM8K
and others).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_filters.reading import Conversion, Row, normalise
from rewards.answers.extract import has_filled_box
from rewards.think_format import ThinkFormat
from sailrl.types import Problem, Verdict, content_parts

OPEN, CLOSE = "<think>", "</think>"

_THOUGHT_TAGS = {
    OPEN: "<thinking> <thought> <thoughts> <reasoning> <reason> <|begin_of_thought|> [think] ◁think▷",
    CLOSE: "</thinking> </thought> </thoughts> </reasoning> </reason> <|end_of_thought|> [/think] ◁/think▷",
}
_SPELLINGS = {spelling: tag for tag, spellings in _THOUGHT_TAGS.items() for spelling in (tag, *spellings.split())}
_ANY_TAG = re.compile("|".join(map(re.escape, _SPELLINGS)), re.IGNORECASE)
_ANSWER_TAG = re.compile(r"</?answer>", re.IGNORECASE)
_WRAPPERS = re.compile(r"</?(?:conclusion|solution|output)>|<\|(?:begin|end)_of_solution\|>", re.IGNORECASE)
_LLAVA_COT = re.compile(r"</?(?:summary|caption)>", re.IGNORECASE)
_HASHES = re.compile(r"^####[ \t]*(\S[^\n]*)", re.MULTILINE)

HINTS: Sequence[re.Pattern[str]] = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"you first think about the reasoning process[^\n]*\\boxed\{\}\.?",
        r"(?:please )?answer the question using a single word or phrase\.?",
        r"hint: please answer the question requiring [^\n]*?at the end\.?",
        r"(?:please )?(?:let's )?(?:think|reason) step by step[^\n]*?(?:\\boxed\{\}|\.|$)",
        r"(?:please )?put (?:your|the) (?:final )?answer (?:with)?in \\boxed\{\}\.?",
        r"(?:please )?(?:answer|respond) (?:briefly|concisely|directly)\.?",
    )
)
"""Requests about the form of the answer that would contradict the one form; extend them for a source of your own."""


def strip_prompt(prompt: Any, hints: Sequence[re.Pattern[str]] = HINTS) -> Any:
    """The prompt without system messages and without hints about the form of the answer; text or chat as it came."""
    if isinstance(prompt, str):
        return _strip_hints(prompt, hints)
    return [_strip_message(message, hints) for message in prompt if message.get("role") != "system"]


def _strip_message(message: Mapping[str, Any], hints: Sequence[re.Pattern[str]]) -> Mapping[str, Any]:
    content = message.get("content")
    if message.get("role") != "user" or not content:
        return message
    if isinstance(content, str):
        return {**message, "content": _strip_hints(content, hints)}
    parts = [
        {**part, "text": _strip_hints(part["text"], hints)} if part.get("type") == "text" else part
        for part in content_parts(content)
    ]
    return {**message, "content": parts}


def _strip_hints(text: str, hints: Sequence[re.Pattern[str]]) -> str:
    for hint in hints:
        text = hint.sub("", text)
    return text.strip()


def unify_response(response: str, answer: str | None = None) -> str:
    """The response in the one form, as far as its own text (and the reference ``answer``) allows; not validated.

    The answer gets a box when it has none: from ``<answer>``, from a ``####`` line, or from the reference answer
    where the text after the thought contains it.
    """
    text = _ANY_TAG.sub(lambda match: _SPELLINGS[match[0].lower()], response)
    head, opened, rest = text.partition(OPEN)
    if not opened:
        head, rest = "", text  # the template may have opened the thought already
    thought, closed, tail = rest.partition(CLOSE)
    if not closed:
        return text.strip()
    lead = _LLAVA_COT.sub("\n", head).strip()  # LLaVA-CoT: summary and caption belong to the thought
    thought = "\n\n".join(part for part in (lead, thought.strip()) if part)
    return f"{OPEN}\n{thought}\n{CLOSE}\n\n{_boxed(_WRAPPERS.sub('', tail).strip(), answer)}"


def _boxed(tail: str, answer: str | None) -> str:
    """The text after the thought with a box, where it names the answer at all."""
    if has_filled_box(tail):
        return _ANSWER_TAG.sub("", tail).strip()
    pieces = _ANSWER_TAG.split(tail)
    if len(pieces) == 3 and pieces[1].strip():
        return f"{pieces[0]}\\boxed{{{pieces[1].strip()}}}{pieces[2]}".strip()
    if hashes := _HASHES.search(tail):
        return f"{tail[: hashes.start()]}\\boxed{{{hashes[1].strip()}}}{tail[hashes.end() :]}"
    if answer and re.search(rf"(?<!\w){re.escape(normalise(answer))}(?!\w|\.\d)", normalise(tail)):
        return f"\\boxed{{{answer}}}" if normalise(tail) == normalise(answer) else f"{tail}\n\n\\boxed{{{answer}}}"
    return tail


@dataclass(frozen=True)
class NormaliseTags:
    """Rewrites rows with a ``response`` into one form and drops those that cannot be rewritten.

    The form is judged by the format reward itself, so what is learnt in SFT is what RL rewards. Reasons: ``kept``
    (nothing to change), ``normalised``, or the reward's reason (``no_think``, ``several_thinks``, ``blank_thinking``,
    ``no_box``, ...).
    """

    strip_prompts: bool = True
    """Also remove system messages and contradicting hints from the prompt."""

    def __call__(self, row: Row) -> Verdict:
        return self.convert(row).verdict

    def convert(self, row: Row) -> Conversion:
        """Normalises one row."""
        answer = row.get("answer")
        response = str(row.get("response") or "")
        unified = unify_response(response, str(answer) if isinstance(answer, (str, int, float)) else None)
        score = ThinkFormat()(unified, Problem())
        if score.value != 1.0:
            return Conversion(None, Verdict(False, score.reason))
        converted = {**row, "response": unified}
        if self.strip_prompts and row.get("prompt"):
            converted["prompt"] = strip_prompt(row["prompt"])
        changed = converted != dict(row)
        return Conversion(converted, Verdict(True, "normalised" if changed else "kept"))
