"""AdaLRS: searches for the learning rate during a run, by the slope of its loss.

Source: SAIL-VL2 (arXiv 2509.14033) section 3.2.3, equation 1; AdaLRS (arXiv 2506.13274). A higher rate is tried over a
window of steps; if the loss then falls faster it stays, and if it falls more slowly weights and optimizer go back to
where they were and the rate is lowered. The window's length k and the margin e are not published: they are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Action = Literal["go_on", "save", "roll_back"]
"""What the trainer has to do after a step: nothing; keep a copy of weights and optimizer, for a rate is about to be
tried; or go back to that copy."""


def descent(losses: Sequence[float]) -> float:
    """How fast losses fall, per step: the negative slope of the least-squares line through them. At least 2 losses."""
    n = len(losses)
    middle, mean = (n - 1) / 2, math.fsum(losses) / n
    spread = n * (n * n - 1) / 12  # sum of (t - middle)^2
    return -math.fsum((t - middle) * (loss - mean) for t, loss in enumerate(losses)) / spread


@dataclass
class AdaLrs:
    """The state of a search; ``observe`` takes the loss of every step. The rate is ``factor`` times the schedule's.

    A round has two windows: one measures the descent v at the present rate, one at ``a'`` times it, where
    ``a' = max(decay^t * up, 1)``. Faster by more than 2e: it stays. Slower by more than 2e, or a loss above all before:
    roll back, and divide by ``b' = max(decay^t * down, 1)``. Otherwise: roll back and keep the rate (equation 1).
    """

    window: int
    """k, steps over which a slope is measured; at least 2."""
    first: int
    """Steps before the search begins."""
    last: int
    """Steps after which it ends."""
    margin: float
    """e, the error of a slope."""
    up: float = 3.0
    down: float = 2.0
    decay: float = 0.99
    factor: float = 1.0
    """What the schedule's rate is multiplied by now."""
    step: int = 0
    rounds: int = 0
    """t of equation 1: how often a rate was tried."""
    highest: float = -math.inf
    """The highest loss before the rate that is being tried."""
    trying: bool = False
    before: float = 0.0
    """The factor to go back to."""
    reference: float = 0.0
    """The descent at that factor."""
    losses: list[float] = field(default_factory=list)

    def observe(self, loss: float) -> Action:
        """Takes the loss of one step; returns what the trainer must do before the next."""
        self.step += 1
        if not self.trying:
            self.highest = max(self.highest, loss)
        if self.step <= self.first or (self.step > self.last and not self.trying):
            return "go_on"
        self.losses.append(loss)
        if self.trying and not loss <= self.highest:  # also when it is not a number
            return self._end(-math.inf)
        if len(self.losses) < self.window:
            return "go_on"
        slope = descent(self.losses)
        self.losses.clear()
        if self.trying:
            return self._end(slope)
        if self.step + self.window > self.last:
            return "go_on"
        self.reference, self.before, self.trying = slope, self.factor, True
        self.factor *= max(self.decay**self.rounds * self.up, 1.0)
        return "save"

    def _end(self, slope: float) -> Action:
        self.trying = False
        self.losses.clear()
        down = max(self.decay**self.rounds * self.down, 1.0)
        self.rounds += 1
        if slope > self.reference + 2 * self.margin:
            return "go_on"
        self.factor = self.before / down if slope < self.reference - 2 * self.margin else self.before
        return "roll_back"

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)
