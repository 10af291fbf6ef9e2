"""Is the answer right? Asked of an LVM judge, for tasks whose answer no rule can compare (SAIL-VL2, section 4.2.5)."""

from __future__ import annotations

import json
from typing import Any

from rewards.judge_api.client import Unanswered
from rewards.judge_api.examiner import AsksJudge
from rewards.judge_api.prompts import ANSWER
from rewards.judge_api.text import split_response
from sailrl.types import Problem, Score


class Judge(AsksJudge):
    """1 when the final answer agrees with the reference answer, else 0; unscored when the judge gives no verdict.

    The judge sees the images, the question, the choices, the reference answer, and of the response only what follows
    the thinking: the answer is what is being judged, and a chain of thought is both long and persuasive. A response
    without an answer (it never stopped thinking, or ends after it) is the model's own fault, so it gets a 0 without a
    call.
    """

    async def __call__(self, response: str, problem: Problem) -> Score:
        if not isinstance(response, str):
            return Score(None, "unscorable", "response_not_text")
        answer = split_response(response, problem).answer
        if not answer:
            return Score(0.0, reason="no_answer")
        fields = {"RESPONSE": answer}
        if problem.answer is not None:
            fields = {"REFERENCE ANSWER": _reference(problem.answer), **fields}
        elif not problem.prompt:
            return Score(None, "unscorable", "nothing_to_judge_by")
        verdict = await self.examiner.examine(ANSWER, problem, fields)
        if isinstance(verdict, Unanswered):
            return verdict.score()
        return Score(1.0, reason="correct") if verdict["is_correct"] else Score(0.0, reason="incorrect")


def _reference(answer: Any) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, default=str)
