"""From the named scores of one response to its reward: a weighted sum (SAIL-VL2) or a cascade (SAIL-RL).

Both follow one rule: a part that was not scored makes the reward unscored, with the part's own status and a reason that
names it (``judge:unreachable``). Nothing is guessed, even if the other parts alone would decide the product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from sailrl.errors import ConfigError, RewardError
from sailrl.types import Score


class Weighted:
    """``R = sum of w_i * R_i`` over the parts in ``weights``: SAIL-VL2 (arXiv 2509.14033), section 4.2.5.

    There the answer, thinking and format weights sum to 1. Penalties such as ``overlong`` come on top with a weight of
    their own, so the sum is for the config to check, not for this class. A part of weight 0 is logged only:
    it cannot make the reward unscored.
    """

    def __call__(self, scores: Mapping[str, Score], weights: Mapping[str, float]) -> Score:
        parts = {name: weight for name, weight in weights.items() if weight != 0}
        unscored = _first_unscored(scores, parts)
        if unscored is not None:
            return unscored
        return Score(_weighted_sum(scores, parts), reason="weighted")


class Cascade:
    """``R = alpha * (R_judging * R_think * R_answer) + (1 - alpha) * R_format``: SAIL-RL (arXiv 2511.02280), eq. 1.

    A right answer only pays when the reasoning is sound and the decision to think was right; the published comparison
    with the mean of the three favours the product, 59.8 to 56.9.

    Parts that have a weight but no place in the formula (``overlong``, ``repetition``) are added with that weight. The
    weights of the parts in the formula are not used, since ``alpha`` takes their place.
    """

    def __init__(
        self,
        answer: str = "boxed",
        think: str | None = "thinking",
        judging: str | None = "judging",
        format: str = "think_format",
        alpha: float = 0.9,
    ) -> None:
        """Args:
            answer: name of the part that says whether the answer is right.
            think: name of the part that judges the reasoning; None leaves the factor out.
            judging: name of the part that judges the decision to think; None leaves the factor out.
            format: name of the part that checks the tags and the box.
            alpha: share of the product; the format gets the rest. SAIL-RL: 0.9.

        Raises:
            ConfigError: alpha outside [0, 1], or one part in two places.
        """
        if not 0.0 <= alpha <= 1.0:
            raise ConfigError(f"cascade: alpha is {alpha}, but it is a share and lies in [0, 1]. SAIL-RL uses 0.9.")
        self.factors = tuple(name for name in (judging, think, answer) if name is not None)
        self.format = format
        self.alpha = alpha
        named = (*self.factors, format)
        if len(set(named)) != len(named):
            raise ConfigError(f"cascade: each part has one place in the formula, got {', '.join(named)}.")

    def __call__(self, scores: Mapping[str, Score], weights: Mapping[str, float]) -> Score:
        named = (*self.factors, self.format)
        extra = {name: weight for name, weight in weights.items() if weight != 0 and name not in named}
        unscored = _first_unscored(scores, (*named, *extra))
        if unscored is not None:
            return unscored
        product = math.prod(_value(scores[name]) for name in self.factors)
        total = self.alpha * product + (1.0 - self.alpha) * _value(scores[self.format])
        return Score(total + _weighted_sum(scores, extra), reason="cascade")


def _first_unscored(scores: Mapping[str, Score], names: Iterable[str]) -> Score | None:
    """The reward's verdict when a part is missing its value: the first such part, in the order of the config."""
    for name in names:
        if name not in scores:
            have = ", ".join(scores) or "nothing"
            raise RewardError(
                f"the reward needs the part {name!r}, but the response was scored with {have}. "
                "Add it under rewards, or take its name out of the combining rule."
            )
        if scores[name].value is None:
            return Score(None, scores[name].status, f"{name}:{scores[name].reason}")
    return None


def _weighted_sum(scores: Mapping[str, Score], weights: Mapping[str, float]) -> float:
    """``fsum``, so that the reward does not depend on the order in which the config lists its parts."""
    return math.fsum(weight * _value(scores[name]) for name, weight in weights.items())


def _value(score: Score) -> float:
    assert score.value is not None  # _first_unscored has looked
    return score.value
