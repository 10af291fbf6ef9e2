"""Is the reasoning good? SAIL-RL's thinking reward (arXiv 2511.02280, section 3 and appendix C.2 to C.4)."""

from __future__ import annotations

import asyncio
from typing import Any

from rewards.judge_api.client import Unanswered
from rewards.judge_api.examiner import AsksJudge
from rewards.judge_api.prompts import CONSISTENCY, FACTS, LOGIC
from rewards.judge_api.text import split_response
from rewards.judge_api.verdict import Verdict
from sailrl.errors import ConfigError
from sailrl.types import Problem, Score


class Thinking(AsksJudge):
    """The mean of three judgments of 0 or 1, so 0, 1/3, 2/3 or 1:

    * logical coherence: is the chain of thought sound, whatever it starts from?
    * factual grounding: does it claim nothing that the images, the question or the world contradict?
    * answer consistency: does the answer follow from it? Seen from thinking and answer alone, so that a wrong but
      faithful chain passes and a right answer without support in the thinking does not.

    A judgment that fails leaves the score without a value. A response that never ended its thinking gets 0 without a
    call, and one that thinks but gives no answer has no third point.
    """

    def __init__(self, base_url: str, model: str, *, empty_value: float = 1.0, **settings: Any) -> None:
        """Args:
        empty_value: score of a response that did not think, unless ``meta.requires_reasoning`` says that it should
            have: then it is 0. The papers are silent. In SAIL-RL's product it must be 1, or a direct answer could
            never be rewarded, and ``judging`` punishes the wrong ones. In a weighted sum without ``judging`` use 0,
            or not thinking is the easiest way to a score.
        base_url, model, **settings: see ``AsksJudge``.
        """
        if not 0.0 <= empty_value <= 1.0:
            raise ConfigError(f"thinking: empty_value is {empty_value}, but a score of reasoning lies in [0, 1].")
        super().__init__(base_url, model, **settings)
        self.empty_value = empty_value

    async def __call__(self, response: str, problem: Problem) -> Score:
        if not isinstance(response, str):
            return Score(None, "unscorable", "response_not_text")
        parts = split_response(response, problem)
        if parts.answer is None:
            return Score(0.0, reason="unclosed_think")
        if not parts.thinking:
            if problem.meta.get("requires_reasoning") is True:
                return Score(0.0, reason="thinking_missing")
            return Score(self.empty_value, reason="no_thinking")
        thinking = {"THINKING": parts.thinking}
        verdicts = await asyncio.gather(
            self.examiner.examine(LOGIC, problem, thinking),
            self.examiner.examine(FACTS, problem, thinking),
            self._consistency(parts.thinking, parts.answer),
        )
        flaws = []
        for verdict, flaw in zip(verdicts, ("illogical", "hallucination", "inconsistent"), strict=True):
            if isinstance(verdict, Unanswered):
                return verdict.score()
            if not all(verdict.values()):
                flaws.append(flaw)
        return Score((3 - len(flaws)) / 3, reason="+".join(flaws) or "sound")

    async def _consistency(self, thinking: str, answer: str) -> Verdict | Unanswered:
        if not answer:
            return {"is_consistent": False}
        return await self.examiner.examine(CONSISTENCY, None, {"THINKING": thinking, "ANSWER": answer})
