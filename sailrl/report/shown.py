"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float | None) -> str:
    """0.4126 as ``41.3%``; a dash when it was not measured."""
    return "–" if share is None else f"{100 * share:.1f}%"


def climb(shares: Sequence[float]) -> str:
    """From the first to the last: ``8.0% → 50.0% (+42.0 points)``; a single share is shown alone."""
    first, last = shares[0], shares[-1]
    if len(shares) == 1:
        return percent(first)
    return f"{percent(first)} → {percent(last)} ({100 * (last - first):+.1f} points)"


def clock(seconds: float) -> str:
    """75 seconds as ``1:15``; with hours from 3,600 on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def span(seconds: float) -> str:
    """75 seconds as ``1 min 15 s``; hours and minutes from 3,600 on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def counted(number: int, thing: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def few(number: float) -> str:
    """A number in two digits that count, and all before the point: ``0.052``, ``4.3``, ``1,234``."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def metric(value: object) -> str:
    """A metric in four significant digits; a dash when it was not measured."""
    if value is None:
        return "–"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return f"{int(value):,}" if isinstance(value, int | float) else str(value)
