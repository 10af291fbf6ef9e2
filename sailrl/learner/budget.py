"""How long a diagnosis may take: a number of forward passes that is known once the first has been timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from sailrl.learner import ranks

SECONDS = 60.0
MOST_PASSES = 128

P = ParamSpec("P")
T = TypeVar("T")


class BudgetSpent(Exception):
    """No pass is left."""


class Budget:
    """Counts passes: at most ``MOST_PASSES``, and as many as fit into ``SECONDS`` at the speed of the first. All ranks
    have the same number, since every pass of a sharded model is a collective."""

    def __init__(self, device: torch.device, *, seconds: float = SECONDS, most: int = MOST_PASSES) -> None:
        self._device, self._seconds = device, seconds
        self.allowed, self.used = most, 0

    def counted(self, run: Callable[P, T]) -> Callable[P, T]:
        """``run`` as a function each call of which is one pass; raises BudgetSpent where none is left."""

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if self.used >= self.allowed:
                raise BudgetSpent
            start = time.monotonic()
            result = run(*args, **kwargs)
            self.used += 1
            if self.used == 1:
                took = ranks.agreed(torch.tensor(time.monotonic() - start, device=self._device))
                self.allowed = max(1, min(self.allowed, int(self._seconds / max(float(took), 1e-6))))
            return result

        return call
