"""Proof that the engines have the learner's weights: the log-probabilities of a few fixed prompts, on both sides.

Reloading weights can fail silently (a stale packed copy, a parameter whose name differs), and nothing but a number that
went through the whole forward pass shows it. In float32 both sides agree to about 1e-6 nats.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from sailrl.errors import WeightSyncError
from sailrl.types import Prompt

ROUNDING = 1e-3
"""Nats that may still be rounding in float32: a compiled engine differed by 1.1e-4 once, eager ones by 1e-5."""
Ask = Callable[[Prompt], Awaitable[list[float]]]


class Probe:
    """Compares engines and learner on ``prompts``. A handful is enough: every parameter takes part in every prompt.

    Args:
        tolerance: largest difference allowed on any token, in nats.
    """

    def __init__(self, learners: Any, pool: Any, prompts: Sequence[Prompt], *, tolerance: float) -> None:
        self._learners, self._pool = learners, pool
        self.prompts, self.tolerance = prompts, tolerance
        self._agreed = False
        self._version: int | None = None
        self._mine: list[list[float]] = []  # what the learner said of the prompts at that version

    async def check(self, version: int, previous: Path | None) -> float:
        """Returns the largest difference found, in nats.

        Args:
            previous: folder of the weights published before; with it a failure names what is still from then. None
                at the first publish, and where weights do not pass through a folder.

        Raises:
            WeightSyncError: an engine's log-probabilities differ by more than the tolerance, or are not numbers.
        """
        self._mine = [await asyncio.to_thread(self._learners.prompt_logprobs, prompt) for prompt in self.prompts]
        self._version = version
        worst = 0.0
        for prompt, mine in zip(self.prompts, self._mine, strict=True):
            for worker, theirs in enumerate(await self._pool.prompt_logprobs(prompt)):
                difference = _difference(mine, theirs)
                if not difference <= self.tolerance:  # not "greater": NaN must fail
                    raise WeightSyncError(await self._message(version, worker, difference, prompt, theirs, previous))
                worst = max(worst, difference)
        self._agreed = True
        return worst

    async def prove(self, worker: int, version: int, ask: Ask) -> bool:
        """The same for one worker that comes later, by what the learner said then: it may have learned since.

        Args:
            ask: gives the worker's log-probabilities of a prompt.

        Returns:
            False while the learner was not asked about ``version`` yet.

        Raises:
            WeightSyncError: as above.
        """
        if version != self._version:
            return False
        for prompt, mine in zip(self.prompts, self._mine, strict=True):
            theirs = await ask(prompt)
            difference = _difference(mine, theirs)
            if not difference <= self.tolerance:
                raise WeightSyncError(
                    self._difference_text(version, worker, difference)
                    + "It came in place of another and read the folder of that version by itself: the folder is "
                    "damaged, or its machine computes otherwise. Run the same command to resume."
                )
        return True

    async def _message(
        self, version: int, worker: int, difference: float, prompt: Prompt, theirs: list[float], previous: Path | None
    ) -> str:
        text = self._difference_text(version, worker, difference)
        if math.isnan(difference):
            return text + "They are not numbers: the weights themselves are broken, resume from an earlier checkpoint."
        if previous is None and self._agreed:
            return text + (
                "They agreed before, so part of the weights did not arrive. No folder of older weights was kept that "
                "could name it: resume with sync.method=disk to learn whether the way or the weights are at fault."
            )
        if previous is None:
            return text + "It is the first publish: compare dtype, chat template and model class on both sides."
        stale = await asyncio.to_thread(self._learners.explain_stale, prompt, theirs, str(previous))
        if stale:
            return text + f"It still has the previous version of: {', '.join(stale)}."
        text += "No group of the previous version explains it: weights are permuted, renamed or altered"
        if difference > ROUNDING:
            return text + "."
        return text + (
            ". Or, with so little, both sides round differently: write sync.probe_tolerance: "
            f"{ROUNDING:g}, or on a CPU rollout.engine.enforce_eager: true, which rounds most alike."
        )

    def _difference_text(self, version: int, worker: int, difference: float) -> str:
        return (
            f"rollout worker {worker} does not compute with version {version} of the weights: its log-probabilities of "
            f"a fixed prompt differ from the learner's by {difference:.2g} nats, allowed are {self.tolerance:g} "
            "(sync.probe_tolerance). "
        )


def _difference(mine: Sequence[float], theirs: Sequence[float]) -> float:
    differences = [abs(a - b) for a, b in zip(mine, theirs, strict=True)]
    # max() over numbers loses a NaN that does not come first.
    return math.nan if any(map(math.isnan, differences)) else max(differences, default=0.0)
