"""LLM-assisted rewriting of multiple choice that rules cannot convert, with checks that the answer survives it.

Source: SAIL-VL2 (arXiv 2509.14033) section 4.2.3, filter 1 (an LLM converts; prompt and checks are not published).
The model behind ``rewrite`` and ``solve`` is the caller's, :class:`data_filters.mcq_judge.JudgeRewriter` for one; this
module decides whether a rewrite is used.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from data_filters.mcq import (
    McqToFree,
    answer_letter,
    free_response,
    is_quantity_or_formula,
    question_text,
    stands_alone,
)
from data_filters.mcq_options import split_options
from data_filters.reading import Conversion, Row, normalise
from rewards.boxed import BoxedAnswer
from rewards.judge_api.text import plain
from sailrl.errors import RewardError
from sailrl.types import Problem, Verdict

Rewrite: TypeAlias = Callable[[Row], Awaitable[Mapping[str, str] | None]]
"""Gets the multiple-choice row, its answer being the right option's text; returns ``{"question": ..., "answer": ...}``,
or None when it cannot be rewritten. Raises RewardError when no answer came."""
Solve: TypeAlias = Callable[[Row], Awaitable[str]]
"""Gets the rewritten row without its answer; returns the answer it finds from the question (and the images) alone.
Raises RewardError when no answer came."""

REWRITABLE = ("needs_options", "approximate", "options_refer")
"""Reasons that are about a question's wording, which a rewrite can change; its answer is a number or a formula."""
UNANSWERED = "rewrite_unanswered"
_MARKS_IN_FRONT = re.compile(r"\s*(?:<(?:image|video)>\s*)*")
_MARK = re.compile(r"<(?:image|video)>")
_boxed = BoxedAnswer()


def same_answer(given: str, reference: str) -> bool:
    """Whether the answer reward would take one for the other, by its rules alone (no symbolic step)."""
    score = _boxed.fast(f"\\boxed{{{given.replace('$', '').strip()}}}", Problem(answer=reference))
    return score is not None and score.value == 1.0


@dataclass(frozen=True)
class RewriteMcq:
    """Converts by rule, and asks ``rewrite`` for what the rules leave because of its wording.

    A rewrite is believed when its answer is the reference option, its question stands without options, holds neither
    the answer nor marks of its own, and ``solve`` finds the answer without having seen the options. Everything else
    stays as the rules left it. Reasons besides those of :class:`~data_filters.mcq.McqToFree`: ``rewritten``,
    ``rewrite_refused``, ``rewrite_changed_answer``, ``rewrite_needs_options``, ``rewrite_has_marks`` (of images or of
    a chat template), ``rewrite_gives_answer``, ``rewrite_not_derivable``, ``rewrite_unanswered`` (no answer came).
    """

    rewrite: Rewrite
    solve: Solve
    rules: McqToFree = field(default_factory=McqToFree)

    async def convert(self, row: Row) -> Conversion:
        """Converts one problem row, by rule if possible."""
        by_rule = self.rules.convert(row)
        options = split_options(question_text(row), row.get("choices") or ())
        letter = answer_letter(options, row.get("answer")) if options else None
        if by_rule.verdict.reason not in REWRITABLE or options is None or letter is None:
            return by_rule
        answer = options.texts[options.letters.index(letter)]
        marks = _MARKS_IN_FRONT.match(options.question)
        assert marks is not None  # it matches nothing, too
        if not is_quantity_or_formula(answer) or _MARK.search(options.question, marks.end()):
            return by_rule  # marks between the words stand where they mean something

        def left(reason: str, **evidence: object) -> Conversion:
            return Conversion(
                by_rule.row, Verdict(by_rule.verdict.keep, reason, {**by_rule.verdict.evidence, **evidence})
            )

        try:
            proposal = await self.rewrite({**row, "answer": answer})
            if proposal is None:
                return left("rewrite_refused")
            reason = _objection(proposal, options.question, answer)
            if reason is not None:
                return left(reason, proposal=dict(proposal))
            converted = free_response(row, options, letter, marks[0] + proposal["question"].strip())
            unanswered = {name: value for name, value in converted.items() if name not in ("answer", "meta")}
            solved = await self.solve(unanswered)
        except RewardError as error:
            return left(UNANSWERED, error=str(error))
        if not same_answer(solved, answer):
            return left("rewrite_not_derivable", proposal=dict(proposal), solved=solved)
        return Conversion(converted, Verdict(True, "rewritten", {"letter": letter, "answer": answer}))


def _objection(proposal: Mapping[str, str], stem: str, answer: str) -> str | None:
    question = proposal["question"]
    if not same_answer(proposal["answer"], answer):
        return "rewrite_changed_answer"
    if plain(question) != question:
        return "rewrite_has_marks"
    if stands_alone(question) is not None or split_options(question) is not None:
        return "rewrite_needs_options"
    return "rewrite_gives_answer" if _occurrences(answer, question) > _occurrences(answer, stem) else None


def _occurrences(answer: str, text: str) -> int:
    """How often an answer stands in a text as a whole (4 does not stand in 14)."""
    words = f" {normalise(text)} "
    target = normalise(answer)
    places = [i for i in range(len(words)) if words.startswith(target, i)]
    return sum(not words[i - 1].isalnum() and not words[i + len(target)].isalnum() for i in places)
