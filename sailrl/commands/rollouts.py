"""``sailrl rollouts``: responses of a run in the terminal, with their scores. What models wrote is hostile text: it
reaches the terminal through ``report.safe_text`` only."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from sailrl.data import jsonl
from sailrl.errors import ConfigError, DataError
from sailrl.report.evals import RESPONSES
from sailrl.report.safe_text import safe, safe_lines
from sailrl.report.shown import counted, metric
from sailrl.report.traces import ROLLOUTS_FILE, prompt_text

SHOWN_CHARACTERS = 4000
"""Longest piece of a prompt or response that is shown."""
Line = Mapping[str, Any]
Order = Literal["best", "worst", "newest"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which responses to show."""

    episode: int | None = None
    task: str | None = None
    grep: str | None = None
    """Text that the prompt or the response has, in any case."""
    reward: str | None = None
    """The reward that best and worst go by; None is the total."""
    order: Order = "newest"
    count: int = 5

    def takes(self, line: Line) -> bool:
        """Whether a response is one of those to choose from."""
        if self.episode is not None and line.get("episode") != self.episode:
            return False
        if self.task is not None and line.get("task") != self.task:
            return False
        if self.grep is not None:
            text = f"{prompt_text(line.get('prompt') or '')}\n{line.get('response')}"
            if self.grep.casefold() not in text.casefold():
                return False
        return self.order == "newest" or self.value(line) is not None

    def value(self, line: Line) -> float | None:
        """The number that best and worst go by."""
        if self.reward is None:
            value = line.get("reward")
        else:
            value = ((line.get("scores") or {}).get(self.reward) or {}).get("value")
        return float(value) if isinstance(value, int | float) else None


def order_of(best: bool, worst: bool, reward: str | None) -> Order:
    """The order that the options ask for. Raises ConfigError when they contradict each other."""
    if best and worst:
        raise ConfigError("--best and --worst exclude each other; use one of them.")
    return "best" if best else "worst" if worst or reward is not None else "newest"


def print_rollouts(run_dir: Path, wanted: Wanted, console: Console | None = None) -> None:
    """Prints the chosen responses of a run or an evaluation. Reads the file once, and holds those that it shows.

    Raises:
        ConfigError: no response has a reward of the name asked for.
        DataError: there are no responses, none is as asked, or a line is broken.
    """
    path = _file(run_dir)
    names: dict[str, None] = {}
    total, found = 0, 0

    def matching() -> Iterator[tuple[float, int, Line]]:
        nonlocal total, found
        for offset, line in jsonl.read(path):
            total += 1
            names.update(dict.fromkeys(line.get("scores") or ()))
            if wanted.takes(line):
                found += 1
                yield wanted.value(line) or 0.0, offset, line

    if wanted.order == "newest":
        chosen = list(deque(matching(), maxlen=wanted.count))[::-1]
    else:  # of equal ones the first, which is why the offset counts
        sign = -1 if wanted.order == "best" else 1
        chosen = heapq.nsmallest(wanted.count, matching(), key=lambda one: (sign * one[0], one[1]))
    if wanted.reward is not None and wanted.reward not in names:
        raise ConfigError(f"no response in {path} has a reward {wanted.reward!r}. There are: {', '.join(names)}.")
    if not chosen:
        raise DataError(f"none of the {total:,} responses in {path} is as asked.")
    console = console or Console(highlight=False)
    for _, _, line in chosen:
        _print(console, line)
    console.print(Text(f"{len(chosen)} of {counted(found, 'response')} as asked, {total:,} in {safe(str(path))}"))


def _file(run_dir: Path) -> Path:
    if not run_dir.is_dir():
        raise DataError(
            f"there is no run folder {run_dir}. Give the folder that `sailrl run` printed, e.g. runs/rlvr_tiny."
        )
    for name in (ROLLOUTS_FILE, RESPONSES):
        if (run_dir / name).is_file():
            return run_dir / name
    raise DataError(f"{run_dir} has no responses: neither {ROLLOUTS_FILE} of a run nor {RESPONSES} of an evaluation.")


def _print(console: Console, line: Line) -> None:
    console.print(Rule(Text(safe(_title(line), 100)), align="left"))
    console.print(Text(_cut(prompt_text(line.get("prompt") or ""))), style="dim", soft_wrap=True)
    if line.get("image_hashes"):
        console.print(Text(f"[{counted(len(line['image_hashes']), 'image')}]"), style="dim")
    console.print(Text(safe(f"answer: {line.get('answer')}", 200)))
    console.print(Text(_cut(f"{line.get('response_prefix', '')}{line.get('response')}")), soft_wrap=True)
    scores = ", ".join(
        f"{name} {metric(score['value']) if score['status'] == 'scored' else score['status']} ({score['reason']})"
        for name, score in (line.get("scores") or {}).items()
    )
    console.print(Text(safe(f"reward {metric(line.get('reward'))}: {scores}", 400)), style="bold")


def _title(line: Line) -> str:
    facts = [f"episode {line['episode']}"] if "episode" in line else [f"{line.get('model')}, {line.get('asked')}"]
    facts += [str(line.get("id")), f"{line.get('response_tokens')} tokens", str(line.get("finish_reason"))]
    if line.get("dropped_reason"):
        facts.append(f"dropped: {line['dropped_reason']}")
    return ", ".join(facts)


def _cut(text: str) -> str:
    rest = len(text) - SHOWN_CHARACTERS
    return safe_lines(text[:SHOWN_CHARACTERS]) + (f"\n… {rest:,} more characters" if rest > 0 else "")
