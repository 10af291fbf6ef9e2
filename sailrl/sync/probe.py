"""Proof that engines compute what the learner computes: the log-probabilities of a few fixed prompts, on both sides.

Reloading weights can fail silently (a stale packed copy, a parameter whose name differs), and only a number that went
through the whole forward pass shows it. How far the two sides may be apart follows from what rounding does on this
model. The learner measures that on the same prompts, without an engine.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sailrl.errors import WeightSyncError
from sailrl.types import Prompt

MARGIN = 4.0
"""Engine and learner may differ by so many times what rounding alone does: it was 0.8 to 2.4 times on SmolLM2."""
Ask = Callable[[Prompt], Awaitable[list[float]]]


@dataclass(frozen=True, slots=True)
class Difference:
    """|log-probability on one side - on the other| in nats, over all tokens of the probe prompts. All three are NaN
    where one log-probability is not a number."""

    mean: float
    p99: float
    max: float

    @classmethod
    def of(cls, mine: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Difference:
        """Of the same prompts' tokens on both sides."""
        pairs = (zip(a, b, strict=True) for a, b in zip(mine, theirs, strict=True))
        values = sorted((abs(a - b) for pair in pairs for a, b in pair), key=lambda value: (value == value, value))
        if not values or math.isnan(values[0]):
            return cls(math.nan, math.nan, math.nan) if values else cls(0.0, 0.0, 0.0)
        return cls(fmean(values), values[math.ceil(0.99 * len(values)) - 1], values[-1])

    def or_more(self, other: Difference) -> Difference:
        """The larger of each number."""
        return Difference(max(self.mean, other.mean), max(self.p99, other.p99), max(self.max, other.max))

    def metrics(self) -> dict[str, float]:
        """As they are logged."""
        return {
            "sync/mean_abs_dlogp": self.mean,
            "sync/p99_abs_dlogp": self.p99,
            "sync/max_abs_dlogp": self.max,
        }

    def __str__(self) -> str:
        return f"{self.mean:.2g} nats on average, {self.p99:.2g} at the 99th percentile, {self.max:.2g} at most"


FLOOR = {
    "float32": Difference(5e-6, 2e-5, 5e-5),
    "float16": Difference(1e-3, 4e-3, 1e-2),
    "bfloat16": Difference(8e-3, 3e-2, 8e-2),
}
"""Taken for rounding on any model, also where a small one happens to round alike: a compiled engine of the tiny demo
was 1.1e-4 apart in float32 once, where eager ones are 1e-5."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far engine and learner may be apart: the maximum in float32; the mean and the 99th percentile in half
    precision, where single tokens are far off by rounding alone.

    Args:
        rounding: measured on the learner.
        tolerance: ``sync.probe_tolerance``, in place of the measured limit in float32.
    """

    dtype: str
    rounding: Difference
    tolerance: float | None = None

    @property
    def mean(self) -> float:
        """Nats that the mean may reach."""
        return self.max if self.dtype == "float32" else MARGIN * self.rounding.mean

    @property
    def max(self) -> float:
        """Nats that the maximum may reach in float32."""
        return self.tolerance or MARGIN * self.rounding.max

    def allow(self, found: Difference, *, times: float = 1.0) -> bool:
        """Whether what was found is within ``times`` the limits; what is not a number never is."""
        if self.dtype == "float32":
            return found.max <= times * self.max
        return found.mean <= times * self.mean and found.p99 <= times * MARGIN * self.rounding.p99

    def __str__(self) -> str:
        if self.dtype == "float32" and self.tolerance:
            return f"{self.tolerance:.2g} at most (sync.probe_tolerance)"
        why = f"{MARGIN:g} times what rounding does to this model in {self.dtype}"
        if self.dtype == "float32":
            return f"{self.max:.2g} at most, {why}"
        return f"{self.mean:.2g} on average and {MARGIN * self.rounding.p99:.2g} at the 99th percentile, {why}"


class Disagreement(WeightSyncError):
    """An engine and the learner are further apart than their limits."""

    prompt: Prompt
    """On which they differ most."""
    theirs: list[float]
    """[P-1] log-probabilities of the engine."""
    worker: int
    close: bool
    """They are apart by less than ten times the limits: other code may round so."""


class Probe:
    """Compares engines and learner on ``prompts``. A few hundred tokens are enough: every parameter takes part in each.

    Args:
        dtype: ``model.dtype``.
        tolerance: ``sync.probe_tolerance``.
    """

    def __init__(
        self, learners: Any, pool: Any, prompts: Sequence[Prompt], *, dtype: str, tolerance: float | None
    ) -> None:
        self._learners, self._pool, self._prompts = learners, pool, prompts
        self._dtype, self._tolerance = dtype, tolerance
        self._limits: Limits | None = None
        self._version: int | None = None
        self._mine: list[list[float]] = []  # what the learner said of the prompts at that version

    async def check(self, version: int) -> Difference:
        """Compares all engines with the learner, whose weights were published as ``version``.

        Returns:
            The largest numbers of any engine.

        Raises:
            Disagreement: an engine is further apart than the limits.
            WeightSyncError: log-probabilities are not numbers, or an engine saw other tokens.
        """
        self._version = None  # until there is something to compare a replacement with
        self._mine = await asyncio.to_thread(self._learners.prompt_logprobs, self._prompts)
        measured = self._limits is None
        if measured:
            await self._measure()
            await asyncio.to_thread(self._learners.limit_first_update, self._limits_now().mean)
        self._version = version
        worst = Difference(0.0, 0.0, 0.0)
        for worker, theirs in enumerate(await self._answers()):
            found = self._compared(version, worker, theirs)
            if not measured and not self._limits_now().allow(found):
                await self._measure()  # the weights have changed since, and may round otherwise
                measured = True
            if not self._limits_now().allow(found):
                raise self._disagreement(version, worker, theirs, found)
            worst = worst.or_more(found)
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
        theirs = [await ask(prompt) for prompt in self._prompts]
        found = self._compared(version, worker, theirs)
        if not self._limits_now().allow(found):
            raise WeightSyncError(
                f"{self._disagreement(version, worker, theirs, found)} It took the place of another and read the "
                "folder of that version by itself: the folder is damaged, or its machine computes otherwise. Run the "
                "same command to resume."
            )
        return True

    async def _measure(self) -> None:
        """Limits by what rounding does at the present weights, never less than before."""
        rounded = await asyncio.to_thread(self._learners.prompt_logprobs, self._prompts, rounded=True)
        rounding = Difference.of(self._mine, rounded).or_more(FLOOR[self._dtype])
        before = rounding if self._limits is None else self._limits.rounding
        self._limits = Limits(self._dtype, rounding.or_more(before), self._tolerance)

    async def _answers(self) -> list[tuple[list[float], ...]]:
        """Per engine, its log-probabilities of every prompt."""
        while True:
            answers = [await self._pool.prompt_logprobs(prompt) for prompt in self._prompts]
            if len({len(engines) for engines in answers}) == 1:  # else one has died between two prompts
                return list(zip(*answers, strict=True))

    def _limits_now(self) -> Limits:
        assert self._limits is not None  # every comparison begins with ``check``
        return self._limits

    def _compared(self, version: int, worker: int, theirs: Sequence[list[float]]) -> Difference:
        for mine, other in zip(self._mine, theirs, strict=True):
            if len(mine) != len(other):
                raise WeightSyncError(
                    f"template differs: rollout worker {worker} sees {len(other) + 1} tokens of a prompt of "
                    f"{len(mine) + 1}. Compare tokenizer, chat template and processor of the two."
                )
        found = Difference.of(self._mine, theirs)
        if math.isnan(found.max):
            raise WeightSyncError(
                f"log-probabilities of version {version} of the weights are not numbers, on the learner or on rollout "
                f"worker {worker}: the weights themselves are broken. Resume from an earlier checkpoint."
            )
        return found

    def _disagreement(
        self, version: int, worker: int, theirs: Sequence[list[float]], found: Difference
    ) -> Disagreement:
        tokens = sum(map(len, self._mine))
        error = Disagreement(
            f"rollout worker {worker} does not compute what the learner does with version {version} of the weights: "
            f"the log-probabilities of {tokens} tokens of fixed prompts differ by {found}; allowed are "
            f"{self._limits_now()}."
        )
        each = [Difference.of([mine], [other]).max for mine, other in zip(self._mine, theirs, strict=True)]
        most = each.index(max(each))
        error.prompt, error.theirs, error.worker = self._prompts[most], list(theirs[most]), worker
        error.close = self._limits_now().allow(found, times=10.0)
        return error
