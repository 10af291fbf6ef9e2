"""The format reward: 1 when a response reasons inside ``<think>`` and answers with a box after it, else 0.

The rule: optional white space, one ``<think>`` at the start (or opened by the chat template, see
``Problem.response_prefix``), reasoning that is not blank, one ``</think>``, then an answer with a closed, non-empty
``\\boxed{}``. Exact lower-case tags, no second pair anywhere. An end-of-turn token ends the response.

SAIL-RL's form puts ``<judge>...</judge>`` first: whether thinking is needed. There an empty ``<think></think>`` is
right when the judgment says it is not.
"""

from __future__ import annotations

import re

from rewards.answers.extract import CLOSE, OPEN, can_be_seen, end_of_turn, has_filled_box
from sailrl.types import Problem, Score

_JUDGE, _JUDGED = "<judge>", "</judge>"
_JUDGMENT_CHARS = 2000
"""A judgment is a sentence; more of it is not searched."""
_NO_THINKING = re.compile(
    r"\b(?:not|n't|no|without|unnecessary|skip)\b[^.]{0,60}?\b(?:think\w*|reason\w*|needed|required|necessary)\b"
    r"|\b(?:think\w*|reason\w*)\b[^.]{0,40}?\b(?:unnecessary|not|n't)\b|answer(?:ed)? directly"
    r"|(?:不需要|无需|不必|不用)[^。]{0,12}(?:思考|推理)",
    re.IGNORECASE,
)


class ThinkFormat:
    """Scores the form of a response.

    Args:
        judge_form: require SAIL-RL's ``<judge>...</judge>`` before the thinking.
    """

    def __init__(self, judge_form: bool = False) -> None:
        self._judge_form = judge_form

    def __call__(self, response: str, problem: Problem) -> Score:
        if not isinstance(response, str):
            return Score(None, "unscorable", "response_not_text")
        reason = self._fault(_whole(response, problem.response_prefix, self._judge_form))
        return Score(0.0 if reason else 1.0, "scored", reason or "well_formed")

    fast = __call__  # one linear scan: no need for a worker

    def _fault(self, text: str) -> str:
        """The first thing that is wrong with ``text``; empty when nothing is."""
        judgment = ""
        if self._judge_form:
            if text.count(_JUDGE) != 1 or text.count(_JUDGED) != 1:
                return "judge_tags"
            before, _, rest = text.partition(_JUDGE)
            judgment, closed, text = rest.partition(_JUDGED)
            if not closed:
                return "judge_tags"
            if can_be_seen(before):
                return "text_before_judge"
            if not can_be_seen(judgment):
                return "blank_judgment"
        opened, closes = text.count(OPEN), text.count(CLOSE)
        if not opened or not closes:
            return "no_think"
        if opened > 1 or closes > 1:
            return "several_thinks"
        before, _, rest = text.partition(OPEN)
        thinking, closed, answer = rest.partition(CLOSE)
        if not closed:
            return "close_before_open"
        if can_be_seen(before):
            return "text_before_think"
        if not can_be_seen(thinking) and not _NO_THINKING.search(judgment[:_JUDGMENT_CHARS]):
            return "blank_thinking"
        if not has_filled_box(answer):
            return "no_box"
        return ""


def _whole(response: str, prefix: str, judge_form: bool) -> str:
    """The response up to its end-of-turn token, with the tags that the template had already opened for it."""
    text = response[: end_of_turn(response)]
    if not isinstance(prefix, str):
        return text
    opened = prefix.find(_JUDGE if judge_form else OPEN)
    return text if opened < 0 else prefix[opened:] + text
