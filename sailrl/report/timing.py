"""Measures the time of an update in phases that add up to wall time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

PHASES = ("generate", "learn", "sync", "eval", "checkpoint")
"""The phases that the loop waits for. Everything else is ``other``: overhead."""


class Stopwatch:
    """Counts every moment of the driver for exactly one phase: the innermost one that is open, or ``other``.

    ``lap`` ends the interval of one metrics line and begins the next, so a line's ``time/step_s`` is the wall time
    since the line before and its phases sum to it. When an episode has several updates, its generation and sync
    therefore stand in the line during whose interval they ran (generation in the first), not spread over all.

    For one thread: phases nest, and time inside an inner phase is not counted again in the outer one. Work that runs
    beside the loop (generation of the next episode) counts only as far as the loop waits for it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._open: list[str] = []
        self._spent = dict.fromkeys((*PHASES, "other"), 0.0)
        self._since = clock()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """``with watch("generate"): ...``"""
        if phase not in PHASES:
            raise ValueError(f"unknown phase {phase!r}; one of {', '.join(PHASES)}")
        self._book()
        self._open.append(phase)
        expected = list(self._open)
        try:
            yield
        finally:
            self._book()
            if self._open != expected:
                raise RuntimeError(f"phase {phase!r} ends while {self._open} are open: phases must nest")
            self._open.pop()

    def lap(self) -> dict[str, float]:
        """Seconds since the last lap: ``time/step_s`` and its parts ``time/<phase>_s`` and ``time/other_s``."""
        self._book()
        spent = {f"time/{phase}_s": seconds for phase, seconds in self._spent.items()}
        self._spent = dict.fromkeys(self._spent, 0.0)
        return {"time/step_s": sum(spent.values()), **spent}

    def _book(self) -> None:
        now = self._clock()
        self._spent[self._open[-1] if self._open else "other"] += now - self._since
        self._since = now


class Pace:
    """The speed over the last ``updates`` updates: with as many as an episode has, the speed of whole episodes.

    The updates of one episode take very different times, since the first waits for generation and the last publishes
    the weights. Before so many updates were made, the mean is over those that were. Evaluations and checkpoints, which
    not every episode has, are left out.
    """

    def __init__(self, updates: int) -> None:
        self._last: deque[tuple[float, float]] = deque(maxlen=updates)

    def after(self, tokens: float, lap: Mapping[str, float]) -> dict[str, float]:
        """``time/update_s`` (mean seconds of an update) and ``tokens/trained_per_s``, once an update is done.

        Args:
            tokens: that the update learned from.
            lap: its seconds, of ``Stopwatch.lap``.
        """
        self._last.append((tokens, lap["time/step_s"] - lap["time/eval_s"] - lap["time/checkpoint_s"]))
        learned, seconds = (sum(values) for values in zip(*self._last, strict=True))
        return {"time/update_s": seconds / len(self._last), "tokens/trained_per_s": learned / seconds}
