"""Can the rewards use the answers of a data set? Asked of a few problems before anything costly starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from sailrl.errors import DataError
from sailrl.scoring.calls import is_async
from sailrl.scoring.scorer import Scorer
from sailrl.scoring.spec import ScoringSpec, build_reward
from sailrl.types import Problem, Score

TRIED = 16
"""Problems that are tried of each source."""
_RESPONSE = "<think>\nThis is a response to try the rewards.\n</think>\n\\boxed{{{}}}"
Item = TypeVar("Item")


def evenly_spread(items: Sequence[Item], most: int = TRIED) -> list[Item]:
    """At most ``most`` items, from all over the list."""
    step = max(1, len(items) // most)
    return list(items[::step][:most])


def check_answers(spec: ScoringSpec, problems: Sequence[Problem], section: str) -> None:
    """Scores a made-up response to each of ``problems`` with every reward but those that ask a server.

    Args:
        section: where the problems come from, for the error.

    Raises:
        DataError: no response to any of them could have a reward, whatever it says, because of the problems.
        ConfigError, RewardError: a reward cannot be loaded.
    """
    reasons = Counter(score.reason for score in _rewards(spec, problems) if score.status == "unscorable")
    if problems and reasons.total() == len(problems):
        listed = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
        answered = sum(problem.answer is not None for problem in problems)
        raise DataError(
            f"{section}: none of the {len(problems)} problems that were tried can have a reward ({listed}), and "
            f"{answered} of them have an answer. Name the column with the answers: {section}.answer_field, or use "
            "rewards that need none."
        )


def _rewards(spec: ScoringSpec, problems: Sequence[Problem]) -> Iterator[Score]:
    """The reward of the response to each problem; rewards that ask a server count as given."""
    plain = {name: part for name, part in spec.parts.items() if not is_async(build_reward(part))}
    if not plain:
        return
    given = {name: Score(0.0) for name in spec.parts}
    combine = build_reward(spec.combine)
    with Scorer(replace(spec, parts=plain, combine=ScoringSpec(plain).combine, workers=1)) as scorer:
        for problem in problems:
            scored = scorer.score_now(_RESPONSE.format(problem.answer), problem, response_tokens=16)
            yield combine({**given, **scored.scores}, spec.weights)
