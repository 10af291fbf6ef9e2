"""Drops chains of thought that say no more than the answer does.

Source: SAIL-VL2 (arXiv 2509.14033) section 4.2.2 (i): a sample is dropped "when the token overlap between CoT and final
answer is high". Neither the measure nor the threshold is published.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from data_filters.reading import Row, normalise, units
from sailrl.errors import ConfigError
from sailrl.types import Verdict

OPEN, CLOSE = "<think>", "</think>"


def overlap(thought: str, answer: str) -> float:
    """Share of the thought's tokens that occur in the answer, each as often as it does there; 0 for an empty thought.

    Counted against the thought, not the shorter of both: a long chain whose short answer repeats its last line is
    what a good sample looks like, and must come out low.
    """
    tokens = Counter(units(normalise(thought)))
    shared = tokens & Counter(units(normalise(answer)))
    return shared.total() / tokens.total() if tokens else 0.0


@dataclass(frozen=True)
class Redundant:
    """Keeps responses in normal form whose thought adds something. Reasons: ``kept``, ``redundant``, ``no_thought``."""

    threshold: float = 0.8
    """Overlap from which a thought is redundant. Ours: the paper gives none."""

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ConfigError(f"redundancy: threshold = {self.threshold} must lie in (0, 1].")

    def __call__(self, row: Row) -> Verdict:
        thought, closed, answer = str(row.get("response") or "").partition(CLOSE)
        thought = thought.replace(OPEN, " ", 1)
        if not closed or not thought.strip():
            return Verdict(False, "no_thought")
        share = overlap(thought, answer)
        return Verdict(share < self.threshold, "kept" if share < self.threshold else "redundant", {"overlap": share})
