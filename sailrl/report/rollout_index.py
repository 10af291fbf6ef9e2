"""Index of rollouts.jsonl, made in one pass: counts, sums and the position of each group, without texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sailrl.data import jsonl
from sailrl.errors import DataError
from sailrl.report.traces import ROLLOUTS_FILE

Item = TypeVar("Item")


@dataclass(slots=True)
class Visit:
    """The rollouts of one problem in one episode."""

    offset: int
    """Byte at which the first of them stands in the file."""
    scored: int = 0
    correct: float = 0.0

    @property
    def accuracy(self) -> float | None:
        """The share of right responses; None when nothing was scored."""
        return self.correct / self.scored if self.scored else None


@dataclass(slots=True)
class RewardTally:
    """Statuses, reasons and values of one reward over a run."""

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    by_episode: dict[int, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    """[number of values, their sum] of each episode."""

    def mean(self, episode: int) -> float | None:
        """Mean value in one episode."""
        count, total = self.by_episode.get(episode, (0, 0.0))
        return total / count if count else None


@dataclass(slots=True)
class RolloutIndex:
    """Everything a page shows of the rollouts, except their text."""

    path: Path
    rollouts: int = 0
    episodes: list[int] = field(default_factory=list)
    visits: dict[str, dict[int, Visit]] = field(default_factory=dict)
    """By problem and episode."""
    group_fates: Counter[str] = field(default_factory=Counter)
    """Groups by ``kept``, or by the reason they were dropped for."""
    rewards: dict[str, RewardTally] = field(default_factory=dict)

    def most_visited(self, count: int) -> list[str]:
        """Problems that came up in the most episodes, those first."""
        return sorted(self.visits, key=lambda problem: -len(self.visits[problem]))[:count]

    def group_at(self, visit: Visit) -> list[dict[str, Any]]:
        """The lines of the group that begins at a visit's offset."""
        return jsonl.read_run(self.path, visit.offset, ("episode", "group"))


def load_rollouts(run_dir: Path) -> RolloutIndex:
    """Reads the log once; an absent one is an empty index.

    Raises:
        DataError: a line is broken.
    """
    index = RolloutIndex(run_dir / ROLLOUTS_FILE)
    if not index.path.is_file():
        return index
    for offset, line in jsonl.read(index.path):
        try:
            _add(index, offset, line)
        except KeyError as error:
            raise DataError(
                f"{index.path}: the line at byte {offset} lacks {error}, which every rollout has."
            ) from error
    index.episodes = sorted({episode for visits in index.visits.values() for episode in visits})
    return index


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _add(index: RolloutIndex, offset: int, line: dict[str, Any]) -> None:
    episode = line["episode"]
    index.rollouts += 1
    visit = index.visits.setdefault(line["id"], {}).setdefault(episode, Visit(offset))
    if line["accuracy"] is not None:
        visit.scored += 1
        visit.correct += line["accuracy"]
    if line["rollout"] == 0:
        index.group_fates["kept" if line["kept"] else line["dropped_reason"]] += 1
    for name, score in line["scores"].items():
        tally = index.rewards.setdefault(name, RewardTally())
        tally.statuses[score["status"]] += 1
        if score["reason"]:
            tally.reasons[score["reason"]] += 1
        if score["value"] is not None:
            sums = tally.by_episode[episode]
            sums[0] += 1
            sums[1] += score["value"]
