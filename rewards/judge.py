"""Is the answer right? Asked of an LVM judge, for tasks whose answer no rule can compare (SAIL-VL2, section 4.2.5)."""

from __future__ import annotations

import json
import math
from typing import Any

from rewards.judge_client import Unanswered
from rewards.judge_examiner import Examiner
from rewards.judge_prompts import ANSWER
from rewards.judge_text import split_response
from sailrl.types import Problem, Score


class Judge:
    """1 when the final answer agrees with the reference answer, else 0; unscored when the judge could not be had.

    The judge sees the images, the question, the choices, the reference answer, and of the response only what follows
    the thinking: the answer is what is being judged, and a chain of thought is both long and persuasive. A response
    without an answer (it never stopped thinking, or ends after it) is the model's own fault, so it gets a 0 without a
    call.
    """

    def __init__(self, base_url: str, model: str, **settings: Any) -> None:
        """Args:
        base_url: root of an OpenAI-compatible API, e.g. ``http://127.0.0.1:8000/v1``.
        model: name of the model, as the endpoint knows it.
        **settings: the other fields of ``rewards.judge_settings.JudgeSettings``: ``api_key_env``, ``timeout_s``,
            ``deadline_s``, ``max_concurrency``, ``max_retries``, ``cache_dir``, ``max_response_chars``, ...
        """
        self.examiner = Examiner(base_url=base_url, model=model, **settings)

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

    @property
    def deadline_s(self) -> float:
        """None from outside: the client bounds each call itself, and a long queue is not the response's fault."""
        return math.inf

    def metrics(self) -> dict[str, float]:
        """Calls, retries, cache hits, tokens and latencies of the endpoint, shared with all rewards that ask it."""
        return self.examiner.client.metrics()

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
        await self.examiner.client.aclose()


def _reference(answer: Any) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, default=str)
