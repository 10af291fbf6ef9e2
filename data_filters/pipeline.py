"""Filters in a row: one call per row, the reasons of every step counted, the evidence kept with the row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from data_filters.reading import Conversion, Row
from sailrl.errors import ConfigError, DataError
from sailrl.types import Filter, Verdict


@runtime_checkable
class Converter(Protocol):
    """A filter that also changes rows, such as :class:`data_filters.mcq.McqToFree`."""

    def convert(self, row: Row) -> Conversion: ...


@runtime_checkable
class Stateful(Protocol):
    """A filter that remembers rows, such as :class:`data_filters.dedup.ExactDuplicates`."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Pipeline:
    """Applies named steps in order; the first that drops a row ends it.

    A kept row carries ``meta["filters"]``: per step the reason and the evidence. ``counts`` has the reasons per step;
    those of a step sum to the rows that reached it.
    """

    def __init__(self, steps: Mapping[str, Filter | Converter]) -> None:
        for name, step in steps.items():
            if not callable(step) and not isinstance(step, Converter):
                raise ConfigError(f"filter step {name!r} is {type(step).__name__}; it must filter or convert rows.")
        self._steps = dict(steps)
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in steps}

    def __call__(self, row: Row) -> Verdict:
        return self.convert(row).verdict

    def convert(self, row: Row) -> Conversion:
        """Takes one row through all steps. The verdict's evidence names the step that decided, or holds all of them."""
        found: dict[str, dict[str, Any]] = {}
        current = row
        for name, step in self._steps.items():
            conversion = step.convert(current) if isinstance(step, Converter) else _filtered(step, current)
            verdict = conversion.verdict
            self.counts[name][verdict.reason] += 1
            if conversion.row is None:
                return Conversion(None, Verdict(False, verdict.reason, {"step": name, **verdict.evidence}))
            current = conversion.row
            found[name] = {"reason": verdict.reason, **verdict.evidence}
        meta = current.get("meta") or {}
        meta = {**meta, "filters": {**(meta.get("filters") or {}), **found}}
        return Conversion({**current, "meta": meta}, Verdict(True, "kept", found))

    def state_dict(self) -> dict[str, Any]:
        """What the steps remember, and the counts so far; plain JSON."""
        states = {name: step.state_dict() for name, step in self._steps.items() if isinstance(step, Stateful)}
        return {"steps": states, "counts": {name: dict(counts) for name, counts in self.counts.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from ``state_dict``.

        Raises:
            DataError: the state is of other steps.
        """
        if list(state["counts"]) != list(self._steps):
            raise DataError(
                f"filters: the state has the steps {list(state['counts'])}, this run has {list(self._steps)}. "
                "Keep the steps as they were, or filter into a new folder."
            )
        for name, step in self._steps.items():
            if isinstance(step, Stateful):
                step.load_state_dict(state["steps"][name])
        self.counts = {name: Counter(counts) for name, counts in state["counts"].items()}


def _filtered(step: Filter, row: Row) -> Conversion:
    verdict = step(row)
    return Conversion(row if verdict.keep else None, verdict)
