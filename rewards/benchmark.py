"""The answer rules of public benchmarks: the rule of ``rewards.boxed``, and the three that compare texts loosely."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Literal

from rewards.answers.extract import answer_part, extract
from rewards.boxed import BoxedAnswer
from sailrl.errors import ConfigError
from sailrl.types import Problem, Score

RULES = ("same", "anls", "relaxed", "contains")
MAX_TEXT = 1000
"""Characters of an answer that are compared by edit distance, which costs their square."""
_SHORT = 200
"""Characters of a response that is an answer by itself."""
_ANNOUNCED = re.compile(r"[*# ]*(?:the )?(?:final |correct )?answer(?: is)?[:：*\s]+(\S.*)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d*)?|\.\d+)")


class BenchmarkAnswer:
    """Scores the final answer of a response: the last ``\\boxed{}`` behind the thinking; without a box the text behind
    ``Answer:`` in the last line, or the whole response where it is one line of at most 200 characters.

    Args:
        rule: ``same`` compares by meaning, as ``rewards.boxed`` does. ``anls`` is one less the edit distance over the
            longer length, and 0 below 0.5 (DocVQA, arXiv 2007.00398). ``relaxed`` takes numbers within 5% and other
            answers without regard to case (ChartQA, arXiv 2203.10244, section 5.1). ``contains`` asks whether the
            reference answer stands in the answer (OCRBench, arXiv 2305.07895).
        alternatives: a list as the reference answer is several right answers, of which one is enough.
    """

    tasks = BoxedAnswer.tasks

    def __init__(
        self, *, rule: Literal["same", "anls", "relaxed", "contains"] = "same", alternatives: bool = False
    ) -> None:
        if rule not in RULES:
            raise ConfigError(f"rule is {rule!r}, but it is one of {', '.join(RULES)}.")
        self._rule, self._alternatives = rule, alternatives
        self._boxed = BoxedAnswer()

    def __call__(self, response: str, problem: Problem) -> Score:
        if not isinstance(response, str):
            return Score(None, "unscorable", "response_not_text")
        golds = self._golds(problem)
        if not golds:
            return Score(None, "unscorable", "gold_missing")
        if self._rule == "same":
            return _best([self._same(response, replace(problem, answer=gold)) for gold in golds])
        text, fault = final_text(response, problem.response_prefix)
        if text is None:
            return Score(0.0, reason=fault)
        compare = {"anls": _anls, "relaxed": _relaxed, "contains": _contains}[self._rule]
        return _best([Score(compare(str(gold), text, problem.task), reason=self._rule) for gold in golds])

    def dry_run(self, problem: Problem) -> None:
        """The symbolic step for each reference answer, see ``BoxedAnswer.dry_run``."""
        for gold in self._golds(problem) if self._rule == "same" else ():
            self._boxed.dry_run(replace(problem, answer=gold))

    def _golds(self, problem: Problem) -> list[Any]:
        if problem.answer is None:
            return []
        several = isinstance(problem.answer, list | tuple) and self._alternatives
        return list(problem.answer) if several else [problem.answer]

    def _same(self, response: str, problem: Problem) -> Score:
        """By meaning; a short answer without a box counts as one in a box."""
        score = self._boxed(response, problem)
        if score.reason != "no_box":
            return score
        text, _ = final_text(response, problem.response_prefix)
        return score if text is None else self._boxed(f"\\boxed{{{text}}}", replace(problem, response_prefix=""))


def final_text(response: str, prefix: str = "") -> tuple[str | None, str]:
    """The final answer of a response as text, and why there is none."""
    found = extract(response, prefix or "")
    if found.status == "ok":
        return ", ".join(found.boxes), ""
    part = answer_part(response, prefix or "")
    if found.status != "no_box" or part is None:
        return None, found.status
    text = part[0].strip()
    last = text[text.rfind("\n") + 1 :]
    if len(last) <= MAX_TEXT and (announced := _ANNOUNCED.fullmatch(last)):
        return announced[1].strip("* "), ""
    return (text, "") if text and last == text and len(text) <= _SHORT else (None, "no_box")


def _best(scores: list[Score]) -> Score:
    """The score of the alternative that fits best; one that no rule can use says nothing beside one that scored."""
    return max(scores, key=lambda score: -1.0 if score.value is None else score.value)


def _anls(gold: str, answer: str, task: str | None) -> float:
    one, other = (" ".join(text.lower().split()) for text in (gold, answer))
    longer = max(len(one), len(other))
    if not longer or longer > MAX_TEXT:
        return float(one == other)
    value = 1 - _edits(one, other) / longer
    return value if value >= 0.5 else 0.0


def _edits(one: str, other: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(one) + 1))
    for number, letter in enumerate(other, start=1):
        corner, row[0] = row[0], number
        for place, mine in enumerate(one, start=1):
            corner, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, corner + (mine != letter))
    return row[-1]


def _relaxed(gold: str, answer: str, task: str | None) -> float:
    wanted, given = _number(gold), _number(answer)
    if wanted is not None and given is not None and wanted != 0:
        return float(abs(given - wanted) <= 0.05 * abs(wanted))
    return float(answer.strip().rstrip(".").lower() == gold.strip().lower())


def _number(text: str) -> float | None:
    """The number in a text that holds nothing else but a percent sign, which divides it by 100, or a dollar sign."""
    plain = text.strip().rstrip(".").strip("$ ")
    scale = 0.01 if plain.endswith("%") else 1.0
    plain = plain.rstrip("% ")
    return float(plain.replace(",", "")) * scale if _NUMBER.fullmatch(plain) else None


def _contains(gold: str, answer: str, task: str | None) -> float:
    if task == "formula":
        return float("".join(gold.split()) in "".join(answer.split()))
    return float(gold.lower().strip().replace("\n", " ") in answer.lower().replace("\n", " "))
