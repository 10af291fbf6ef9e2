"""A circuit breaker: while an endpoint is down, calls fail at once and do not wait for their deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal


class Breaker:
    """Closed, it lets every call through. After ``failures`` failed calls in a row it opens and refuses all; when
    ``cooldown_s`` is over it lets a single probe through, and that call's outcome closes it or starts a new cool-down.
    """

    def __init__(self, failures: int, cooldown_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False
        self.times_opened = 0

    @property
    def is_open(self) -> bool:
        """Whether calls are refused now."""
        return self._opened_at is not None

    def enter(self) -> Literal["call", "probe"] | None:
        """Whether a call may start now; None means no. A call that starts must end with ``leave`` and the role it
        got."""
        if self._opened_at is None:
            return "call"
        if self._probing or self._clock() - self._opened_at < self._cooldown_s:
            return None
        self._probing = True
        return "probe"

    def leave(self, role: Literal["call", "probe"], healthy: bool | None) -> None:
        """Reports how the call ended; ``healthy`` is None when it says nothing about the endpoint (it was
        cancelled)."""
        if role == "probe":
            self._probing = False
        if healthy is None:
            return
        if healthy:
            # Also from a call that began before the breaker opened: the endpoint answers again.
            self._failures = 0
            self._opened_at = None
            return
        self._failures += 1
        if role == "probe" or (self._opened_at is None and self._failures >= self._limit):
            self._opened_at = self._clock()
            self.times_opened += 1
