"""Was it right to think, or not to? SAIL-RL's judging reward (arXiv 2511.02280, section 3.2 and appendix C.1)."""

from __future__ import annotations

from rewards.judge_api.client import Unanswered
from rewards.judge_api.examiner import AsksJudge
from rewards.judge_api.prompts import JUDGMENT
from rewards.judge_api.text import split_response
from sailrl.types import Problem, Score

# What the judge reads when the response has no <judge> block. Two fixed sentences instead of the response itself: all
# responses of a group that decided alike share one call.
_THOUGHT = "This question requires thinking."
_DID_NOT = "This question does not require thinking."


class Judging(AsksJudge):
    """1 when the decision to think or not equals what the question calls for, else 0.

    The decision is what the model did: its thinking is empty or it is not. What the question calls for is the boolean
    ``meta.requires_reasoning`` of the row, at no cost, or else the judge's opinion. The paper has both: ground-truth
    labels in section 3.2, a judge that labels as it goes in its appendix. With a ``<judge>`` block and no label, the
    block's own words must be right as well.
    """

    async def __call__(self, response: str, problem: Problem) -> Score:
        if not isinstance(response, str):
            return Score(None, "unscorable", "response_not_text")
        parts = split_response(response, problem)
        thought = bool(parts.thinking) or parts.answer is None
        label = problem.meta.get("requires_reasoning")
        if label is not None:
            if not isinstance(label, bool):
                return Score(None, "unscorable", "label_not_boolean")
            return _score(thought == label, thought)
        judgment = parts.judgment or (_THOUGHT if thought else _DID_NOT)
        verdict = await self.examiner.examine(JUDGMENT, problem, {"MODEL JUDGMENT": judgment})
        if isinstance(verdict, Unanswered):
            return verdict.score()
        right = thought == verdict["requires_reasoning"]
        if parts.judgment:
            # Without a block the sentence is ours and the verdict on it says nothing new.
            right = right and bool(verdict["is_judgment_correct"])
        return _score(right, thought)


def _score(right: bool, thought: bool) -> Score:
    decision = "think" if thought else "direct"
    return Score(float(right), reason=f"{'rightly' if right else 'wrongly'}_{decision}")
