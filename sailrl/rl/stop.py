"""Signals that end a run: SIGTERM saves and ends it, Ctrl-C ends it, a second one of either ends it at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether a signal has asked the run to end. Only within ``listening`` are signals handled.

    Args:
        notify: called with one line when SIGTERM arrives.
    """

    def __init__(self, notify: Callable[[str], None] = lambda line: None) -> None:
        self.asked = False
        self._notify = notify
        self._first: int | None = None
        self._wake: Callable[[], Any] | None = None
        self._event = asyncio.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles both signals within the block; only in the main thread."""
        before = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def can_save(self) -> Iterator[None]:
        """Within the block SIGTERM sets ``asked``, and the loop saves and ends. Outside it
        ends the process as Ctrl-C does, since there is nothing to save."""
        loop = asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(self._event.set)
        try:
            yield
        finally:
            self._wake = None

    async def unless(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Returns the result of ``work``; None when the run is asked to end before, and then cancels it."""
        if self._wake is None:
            return await work
        task = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait([task, asked], return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            asked.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._first is not None:  # a second signal: do not wait for the clean-up
            os._exit(128 + number)
        self._first = number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        if self._wake is None:
            self._notify("asked to end (SIGTERM) with nothing new to save")
            raise SystemExit(0)
        self._notify("asked to end (SIGTERM): saving at the next safe point; a second signal ends the run at once")
        self._wake()
