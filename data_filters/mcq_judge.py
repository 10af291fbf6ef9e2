"""Rewrites multiple choice with a language model behind an OpenAI-compatible endpoint: the judge's client, new orders.

:class:`data_filters.mcq_rewrite.RewriteMcq` decides whether to believe what comes back.
"""

from __future__ import annotations

import re

from data_filters.reading import Row
from rewards.judge_api.client import Unanswered
from rewards.judge_api.examiner import AsksJudge
from rewards.judge_api.prompts import JudgePrompt
from rewards.judge_api.verdict import Verdict
from sailrl.errors import RewardError
from sailrl.types import Problem

REWRITE = JudgePrompt(
    verdict=("can_be_rewritten",),
    texts=("question", "answer"),
    task="""\
Your task: word the multiple-choice question in QUESTION (its options are in it, or in CHOICES) as a question without \
options whose only right answer is the one in REFERENCE ANSWER.

- question is the new question, complete in itself. Keep every number, condition and reference to an image. Where \
nothing but the options said how exact an answer must be, or in which form or unit, say that in question.
- question must not list, count or mention options, must not ask to choose among anything, and must not contain the \
answer or a hint to it.
- answer is the answer to question, as short as REFERENCE ANSWER and the same. Work it out from question; if it comes \
out otherwise, the question cannot be rewritten.
- can_be_rewritten is false when several answers would be right without the options ("which of these is a prime"), \
when the options must be seen, or when REFERENCE ANSWER is wrong. Then question and answer are empty.
""",
)

SOLVE = JudgePrompt(
    texts=("working", "answer"),
    task="""\
Your task: answer QUESTION about the images, if there are any.

- working is your reasoning, as short as it can be.
- answer is the final answer alone: a number, with its unit if it has one, or a formula; no sentence.
- When QUESTION cannot be answered, or has several right answers, answer is empty.
""",
)

_MARKS = re.compile(r"<(?:image|video)>\s*")


class JudgeRewriter(AsksJudge):
    """Put it under ``mcq.rewrite``. The model that solves the new question sees neither options nor answer."""

    async def rewrite(self, row: Row) -> dict[str, str] | None:
        """The question without its options; None where there is none.

        Raises:
            RewardError: the model gave no answer.
        """
        problem = _problem(row)
        if len(str(problem.prompt)) > self.examiner.settings.max_response_chars:
            return None  # longer than the model would get to read
        said = await self._ask(REWRITE, problem, {"REFERENCE ANSWER": str(row["answer"])})
        if said is None or not said["can_be_rewritten"] or not str(said["question"]).strip():
            return None
        return {"question": str(said["question"]), "answer": str(said["answer"])}

    async def solve(self, row: Row) -> str:
        """The answer to a rewritten question, found from it and its images alone; empty where there is none.

        Raises:
            RewardError: the model gave no answer.
        """
        said = await self._ask(SOLVE, _problem(row), {})
        return "" if said is None else str(said["answer"])

    async def _ask(self, prompt: JudgePrompt, problem: Problem, fields: dict[str, str]) -> Verdict | None:
        """None when the row itself is at fault: an image that cannot be shown."""
        said = await self.examiner.examine(prompt, problem, fields)
        if not isinstance(said, Unanswered):
            return said
        if said.status == "unscorable":
            return None
        raise RewardError(f"{self.examiner.client!r} gave no answer: {said.reason}")


def _problem(row: Row) -> Problem:
    """What is shown of a row. Marks of images say nothing to this model, which gets the images first."""
    prompt = row["prompt"]
    return Problem(
        prompt=_MARKS.sub("", prompt) if isinstance(prompt, str) else prompt,
        images=tuple(row.get("images") or ()),
        videos=tuple(row.get("videos") or ()),
        choices=tuple(row.get("choices") or ()),
    )
