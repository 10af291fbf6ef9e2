"""Checks on a few problems, before anything costly starts, that the rewards work and can use the answers of a data
set."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sailrl import plugins
from sailrl.errors import DataError, RewardError
from sailrl.scoring.calls import call, checked, is_async
from sailrl.scoring.scorer import Scored, Scorer
from sailrl.scoring.spec import ScoringSpec, build_reward
from sailrl.types import Problem, Score

TRIED = 16
"""Problems that are tried of each source."""
MAX_NOTES = 10
ENOUGH_FAILURES = 3
"""After so many problems a reward that failed on all of them is reported."""
_RESPONSE = "<think>\nThis is a response to try the rewards.\n</think>\n\\boxed{{{}}}"
Item = TypeVar("Item")


def evenly_spread(items: Sequence[Item], most: int = TRIED) -> list[Item]:
    """At most ``most`` items, from all over the list."""
    step = max(1, len(items) // most)
    return list(items[::step][:most])


def check_answers(spec: ScoringSpec, problems: Sequence[Problem], section: str) -> list[str]:
    """Scores a made-up response to each of ``problems`` with every reward but those that ask a server.

    Args:
        section: where the problems come from, for the error.

    Returns:
        A line when only some of them can have a reward.

    Raises:
        DataError: no response to any of them could have a reward, whatever it says, because of the problems.
        RewardError: a reward fails, or runs out of time, on each of them.
        ConfigError, RewardError: a reward cannot be loaded.
    """
    tried: list[Scored] = []
    for scored in _scored(spec, problems):
        tried.append(scored)
        if len(tried) in (ENOUGH_FAILURES, len(problems)) and (failed := _failed(tried)):
            detail = tried[0].details.get(failed, tried[0].scores[failed].reason)
            raise RewardError(
                f"rewards.parts.{failed} has no score for any of the {len(tried)} problems of {section} that were "
                f'tried, with a made-up response: {detail}. To try it alone: python -c "from sailrl.scoring.contract '
                f"import check_reward; check_reward('{spec.parts[failed].use}')\"."
            )
    reasons = Counter(scored.total.reason for scored in tried if scored.total.status == "unscorable")
    listed = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    if tried and reasons.total() == len(tried):
        answered = sum(problem.answer is not None for problem in problems)
        raise DataError(
            f"{section}: none of the {len(problems)} problems that were tried can have a reward ({listed}), and "
            f"{answered} of them have an answer. Name the column with the answers: {section}.answer_field, or use "
            "rewards that need none."
        )
    if not reasons:
        return []
    return [
        f"{section}: {reasons.total()} of the {len(tried)} problems that were tried get no reward with a made-up "
        f"response ({listed})."
    ]


def task_notes(spec: ScoringSpec, tasks: Mapping[str, int], where: str) -> list[str]:
    """One line for each task that is nearly one that a reward knows: a misspelt ``choice`` is not compared as one.

    Args:
        tasks: rows by their ``task``.
        where: the file or source they come from.
    """
    known: dict[str, str] = {}
    for name, part in spec.parts.items():
        known |= dict.fromkeys(getattr(build_reward(part), "tasks", ()), name)
    notes = []
    for task, rows in tasks.items():
        near = difflib.get_close_matches(task.strip().lower(), known, n=1, cutoff=0.75)
        if near and near[0] != task.strip().lower():
            notes.append(
                f"{where}: {rows:,} rows have the task {task!r}, which {known[near[0]]} does not know. Did you mean "
                f"{near[0]!r}? An unknown task is compared by what the reference answer looks like."
            )
    return notes[:MAX_NOTES]


def _failed(tried: Sequence[Scored]) -> str | None:
    """A part that failed or ran out of time on all rows."""
    return next(
        (name for name in tried[0].scores if all(one.scores[name].status in ("failed", "timed_out") for one in tried)),
        None,
    )


def _scored(spec: ScoringSpec, problems: Sequence[Problem]) -> Iterator[Scored]:
    """The scores of the made-up response to each problem. Rewards that ask a server are not called and count as 0."""
    plain = {name: part for name, part in spec.parts.items() if not is_async(build_reward(part))}
    if not plain:
        return
    given = {name: Score(0.0) for name in spec.parts}
    combine = plugins.build_callable(spec.combine.use, spec.combine.args)
    with Scorer(replace(spec, parts=plain, combine=ScoringSpec(plain).combine, workers=1)) as scorer:
        for problem in problems:
            scored = scorer.score_now(_RESPONSE.format(problem.answer), problem, response_tokens=16)
            total = call(combine, {**given, **scored.scores}, spec.weights) or checked(None)
            yield replace(scored, total=total.score)
