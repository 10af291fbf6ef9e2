"""The progress display of a run: a live panel on a terminal, short plain lines anywhere else."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sailrl.report.safe_text import safe
from sailrl.report.shown import clock as clock_time
from sailrl.report.shown import few, percent

Values = Mapping[str, float | None]

PLAIN_INTERVAL_S = 2.0
"""Fastest rate of plain update lines."""
ADVANCE_S = 0.5
"""Fastest rate at which ``advance`` updates the display."""
ETA_UPDATES = 32
"""The remaining time follows the mean of so many last updates; enough to cover a whole episode of several."""
PANEL_COLUMNS = 4
REFRESHES_PER_S = 2.0
"""Rate of the live panel: it draws from the same cores that train."""


def open_progress(
    name: str, total: int, *, done: int = 0, unit: str = "update", console: Console | None = None
) -> Progress:
    """The display: live when stderr is a terminal, plain lines otherwise. Use it as a context manager.

    Args:
        name: of the run.
        total: updates of the whole run, or whatever ``unit`` it counts; 0 when it is not known.
        done: those that a resumed run has already behind it.
    """
    console = console or Console(stderr=True)
    live = console.file.isatty() and not console.is_dumb_terminal
    return (LiveProgress if live else PlainProgress)(name, total, done=done, unit=unit, console=console)


class Progress(ABC):
    """Follows a run: stages of its start-up, what it is doing, its updates and its held-out evaluations."""

    def __init__(
        self,
        name: str,
        total: int,
        *,
        done: int = 0,
        unit: str = "update",
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = safe(name, 60)
        self._unit = unit
        self._console = console
        self._clock = clock
        self._began = self._activity_began = clock()
        self._step_times: deque[float] = deque(maxlen=ETA_UPDATES)
        self._values: dict[str, float | None] = {}
        self._first_eval: float | None = None
        self._last_eval: float | None = None
        self.eta_s: float | None = None
        """Seconds until the last update, as far as the last ones tell."""
        self.expect(total, done=done)

    def expect(self, total: int, *, done: int = 0) -> None:
        """How much there is to do, for a run that finds it out on its way. The speed of ``advance`` counts from now."""
        self.total, self.done = total, done
        self._shown, self._shown_at = done, self._clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def stage(self, text: str) -> None:
        """A stage of the start-up begins (``starting 1 engine (vLLM)``); the one before it has ended."""

    @abstractmethod
    def doing(self, text: str) -> None:
        """What the loop does now. A live display always shows it, a plain one prints it the first time only."""

    @abstractmethod
    def message(self, text: str) -> None:
        """Prints a line that stays."""

    def update(self, step: int, values: Values) -> None:
        """Update number ``step`` is done; ``values`` is its metrics line."""
        self.done = step
        self._values.update(values)
        seconds = values.get("time/step_s")
        if seconds is not None:
            self._step_times.append(seconds)
            mean_s = sum(self._step_times) / len(self._step_times)
            self.eta_s = (self.total - step) * mean_s if step < self.total else None

    def advance(self, values: Values | None = None) -> bool:
        """One more is done, in a job with many small ones. True when the display was updated, with ``values``: at most
        every ``ADVANCE_S``, and for the last one."""
        self.done += 1
        seconds = self._clock() - self._shown_at
        if seconds < ADVANCE_S and self.done != self.total:
            return False
        finished = self.done - self._shown
        self._shown, self._shown_at = self.done, self._shown_at + seconds
        rate = finished / seconds if seconds else None
        self.update(self.done, {**(values or {}), "time/step_s": seconds / finished, "per_s": rate})
        return True

    def evaluated(self, step: int, values: Values) -> None:
        """The weights after ``step`` updates were tried on held-out problems."""
        accuracy = values.get("eval/accuracy")
        if accuracy is not None:
            self._last_eval = accuracy
            self._first_eval = accuracy if self._first_eval is None else self._first_eval
        self.message(f"{self._at(step)}  held-out accuracy {percent(accuracy)}")

    @abstractmethod
    def close(self) -> None:
        """Ends the display; a second call does nothing."""

    def _at(self, step: int) -> str:
        return f"{self._unit} {step:,}/{self.total:,}" if self.total else f"{self._unit} {step:,}"

    @property
    def _elapsed_s(self) -> float:
        return self._clock() - self._began


class PlainProgress(Progress):
    """One line per stage, evaluation and message; update lines at most every ``PLAIN_INTERVAL_S``, and the last one."""

    _last_line_at = float("-inf")
    _said: frozenset[str] = frozenset()

    def stage(self, text: str) -> None:
        self.message(f"{text} ...")

    def doing(self, text: str) -> None:
        if text not in self._said:
            self._said |= {text}
            self.stage(text)

    def message(self, text: str) -> None:
        self._console.print(
            f"[{clock_time(self._elapsed_s)}] {safe(text)}", markup=False, highlight=False, soft_wrap=True
        )

    def update(self, step: int, values: Values) -> None:
        super().update(step, values)
        now = self._clock()
        if now - self._last_line_at < PLAIN_INTERVAL_S and step != self.total:
            return
        self._last_line_at = now
        parts = [self._at(step), *(f"{label} {shown}" for label, shown in readings(values))]
        if self.eta_s is not None:
            parts.append(f"eta {clock_time(self.eta_s)}")
        self.message("  ".join(parts))

    def close(self) -> None:
        pass


class LiveProgress(Progress):
    """A panel that redraws itself in place; stages that ended and messages scroll above it."""

    _stage: str | None = None
    _activity = "starting"

    def __enter__(self) -> Self:
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=REFRESHES_PER_S,
            vertical_overflow="crop",
        )
        self._live.start()
        return self

    def stage(self, text: str) -> None:
        self.doing(text)
        self._stage = text

    def doing(self, text: str) -> None:
        self._end_stage()
        self._activity, self._activity_began = text, self._clock()

    def message(self, text: str) -> None:
        self._console.print(Text(safe(text)))

    def update(self, step: int, values: Values) -> None:
        self._end_stage()
        super().update(step, values)

    def close(self) -> None:
        self._end_stage(", stopped")
        self._activity = "done" if self.done >= self.total else "stopped"
        self._live.stop()

    def _end_stage(self, remark: str = "") -> None:
        if self._stage is not None:
            self.message(f"{self._stage}: {self._clock() - self._activity_began:.1f} s{remark}")
            self._stage = None

    def _draw(self) -> RenderableType:
        # Called by the drawing thread; it only reads.
        now = self._clock()
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        eta = "" if self.eta_s is None else f"  eta {clock_time(self.eta_s)}"
        bar.add_row(
            ProgressBar(total=self.total or None, completed=self.done),
            Text(f"{self.done}/{self.total or '?'} {self._unit}s  {clock_time(now - self._began)}{eta}"),
        )
        self._spinner.update(text=Text(f"{safe(self._activity, 60)}  {now - self._activity_began:.0f} s", style="dim"))
        parts: list[RenderableType] = [bar, self._spinner]
        if self._values:
            parts.insert(0, self._numbers())
        return Panel(Group(*parts), title=Text(self._name, style="bold"), title_align="left", border_style="dim")

    def _numbers(self) -> Table:
        shown = list(readings(self._values))
        if self._last_eval is not None:
            climb = percent(self._last_eval)
            if self._first_eval != self._last_eval:
                climb = f"{percent(self._first_eval)} → {climb}"
            shown.insert(2, ("held-out", climb))
        table = Table.grid(padding=(0, 3))
        for start in range(0, len(shown), PANEL_COLUMNS):
            row = shown[start : start + PANEL_COLUMNS]
            cells = [Text.assemble((f"{label} ", "dim"), value) for label, value in row]
            table.add_row(*cells)
        return table


def readings(values: Values) -> list[tuple[str, str]]:
    """(label, shown value) of the most important numbers, those that were measured."""
    formats: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("reward/mean", "reward", lambda v: f"{v:.3f}"),
        ("accuracy", "acc", percent),
        ("nll", "nll", lambda v: f"{v:.3f}"),
        ("response_tokens/mean", "len", lambda v: f"{v:.0f}"),
        ("tokens/trained_per_s", "tok/s", lambda v: f"{v:,.0f}"),
        ("groups/kept", "kept", lambda v: f"{v:.0f}"),
        ("groups/dropped", "dropped", lambda v: f"{v:.0f}"),
        ("clip/high_fraction", "clip-high", lambda v: f"{100 * v:.2f}%"),
        ("staleness/max", "stale", lambda v: f"{v:.0f}"),
        ("time/update_s", "step", lambda v: f"{v:.1f}s"),
        ("per_s", "rate", lambda v: f"{few(v)}/s"),
    )
    found = ((label, values.get(key), show) for key, label, show in formats)
    return [(label, show(value)) for label, value, show in found if value is not None]
