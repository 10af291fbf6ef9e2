"""The answer reward of a mixed data set: a rule where one can decide, else an LVM judge (SAIL-VL2, section 4.2.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.boxed import BoxedAnswer
from rewards.judge import Judge
from sailrl.types import Problem, Score


class RuleOrJudge(Judge):
    """``BoxedAnswer`` for rows that it can verify, ``Judge`` for all others, so that a mixed data set has one accuracy.

    A row goes to the judge when its ``task`` is one of ``judged_tasks``, or when its reference answer is missing or
    nothing that a rule can compare (an object). An answer that is wrong by rule stays wrong: the judge does not get it.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        judged_tasks: Sequence[str] = ("open",),
        rule: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """Args:
        base_url: root of the judge's OpenAI-compatible API, e.g. ``http://127.0.0.1:8000/v1``.
        model: name of the judge, as the endpoint knows it.
        judged_tasks: values of a row's ``task`` that always go to the judge.
        rule: arguments of ``rewards.boxed.BoxedAnswer``.
        **settings: the other fields of ``rewards.judge_api.settings.JudgeSettings``.
        """
        super().__init__(base_url, model, **settings)
        self.judged_tasks = frozenset(judged_tasks)
        self.rule = BoxedAnswer(**(rule or {}))
        self.tasks = self.rule.tasks | self.judged_tasks

    async def __call__(self, response: str, problem: Problem) -> Score:
        if problem.task not in self.judged_tasks:
            score = self.rule.fast(response, problem)
            if score is None:  # only algebra can decide, which waits for another process
                score = await asyncio.to_thread(self.rule, response, problem)
            if score.status != "unscorable":
                return score
        return await super().__call__(response, problem)
