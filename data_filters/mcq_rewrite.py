"""LLM-assisted rewriting of multiple choice that rules cannot convert, with checks that the answer survives it.

Source: SAIL-VL2 (arXiv 2509.14033) section 4.2.3, filter 1 (an LLM converts; prompt and checks are not published).
The model behind ``rewrite`` and ``solve`` is the caller's; this module only decides whether to believe it.
"""

from __future__ import annotations

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
from data_filters.rows import Conversion, Row, normalise
from sailrl.types import Verdict

Rewrite: TypeAlias = Callable[[Row], Awaitable[Mapping[str, str] | None]]
"""Gets the multiple-choice row; returns ``{"question": ..., "answer": ...}``, or None when it cannot be rewritten."""
Solve: TypeAlias = Callable[[Row], Awaitable[str]]
"""Gets the rewritten row without its answer; returns the answer it finds from the question (and the images) alone."""
Same: TypeAlias = Callable[[str, str], bool]
"""Whether two answers are the same."""

REWRITABLE = ("needs_options", "approximate", "options_refer")
"""What keeps a question multiple choice although its answer is a number or a formula: wording, which a rewrite can
mend."""


def same_text(left: str, right: str) -> bool:
    """Equal up to case, full-width forms, spacing and dollar signs."""
    return normalise(left).replace(" ", "").replace("$", "") == normalise(right).replace(" ", "").replace("$", "")


@dataclass(frozen=True)
class RewriteMcq:
    """Converts by rule, and asks ``rewrite`` for what the rules leave because of its wording.

    A rewrite is believed when its answer is the reference option, its question stands without options, does not contain
    the answer, and ``solve`` (when given) finds the answer without having seen the options. Reasons beside those of
    :class:`~data_filters.mcq.McqToFree`: ``rewritten``, ``rewrite_refused``, ``rewrite_changed_answer``,
    ``rewrite_needs_options``, ``rewrite_gives_answer``, ``rewrite_not_derivable``.
    """

    rewrite: Rewrite
    solve: Solve | None = None
    same: Same = same_text
    rules: McqToFree = field(default_factory=McqToFree)

    async def convert(self, row: Row) -> Conversion:
        """Converts one problem row, by rule if possible."""
        by_rule = self.rules.convert(row)
        if by_rule.verdict.reason not in REWRITABLE:
            return by_rule
        options = split_options(question_text(row), row.get("choices") or ())
        letter = answer_letter(options, row.get("answer")) if options else None
        if options is None or letter is None:
            return by_rule
        answer = options.texts[options.letters.index(letter)]
        if not is_quantity_or_formula(answer):
            return by_rule
        proposal = await self.rewrite(row)
        if proposal is None:
            return Conversion(by_rule.row, Verdict(by_rule.verdict.keep, "rewrite_refused", by_rule.verdict.evidence))
        converted = free_response(row, options, letter, proposal["question"])
        reason = await self._objection(converted, proposal, options.question, answer)
        if reason is not None:
            evidence = {**by_rule.verdict.evidence, "proposal": dict(proposal)}
            return Conversion(by_rule.row, Verdict(by_rule.verdict.keep, reason, evidence))
        return Conversion(converted, Verdict(True, "rewritten", {"letter": letter, "answer": answer}))

    async def _objection(self, converted: Row, proposal: Mapping[str, str], stem: str, answer: str) -> str | None:
        question = proposal["question"]
        if not self.same(proposal["answer"], answer):
            return "rewrite_changed_answer"
        if stands_alone(question) is not None or split_options(question) is not None:
            return "rewrite_needs_options"
        if _occurrences(answer, question) > _occurrences(answer, stem):
            return "rewrite_gives_answer"
        if self.solve is None:
            return None
        unanswered = {name: value for name, value in converted.items() if name not in ("answer", "meta")}
        return None if self.same(await self.solve(unanswered), answer) else "rewrite_not_derivable"


def _occurrences(answer: str, text: str) -> int:
    """How often an answer stands in a text as a whole (4 does not stand in 14)."""
    words = f" {normalise(text)} "
    target = normalise(answer)
    places = [i for i in range(len(words)) if words.startswith(target, i)]
    return sum(not words[i - 1].isalnum() and not words[i + len(target)].isalnum() for i in places)
