"""What ``sailrl eval`` tries its models on: the held-out problems of the configuration, and public benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from sailrl.config.benchmarks import BENCHMARKS, Benchmark
from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.rewards import RewardsConfig
from sailrl.data.benchmark_rows import benchmark_reader
from sailrl.data.images import ImageStore
from sailrl.data.problems import BadProblem, load_problems
from sailrl.report.totals import ScoredResponse, total
from sailrl.scoring.answers import check_answers, evenly_spread
from sailrl.scoring.spec import ScoringSpec
from sailrl.types import Group, Problem, accuracy

PART = "answer"
"""Name of the score of a benchmark's rule."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Problems to try models on, and how the responses become a number."""

    problems: list[Problem]
    rewards: RewardsConfig
    name: str = ""
    """The benchmark; empty for ``data.problems``."""
    bad_rows: list[BadProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def about(self) -> dict[str, Any]:
        """What a line of ``evals.jsonl`` is about, besides model and settings."""
        record = BENCHMARKS.get(self.name)
        return {} if record is None else {"benchmark": self.name, "total": record.total, "group": record.group}

    def numbers(self, groups: list[Group]) -> dict[str, Any]:
        """The number, its standard error, the mean length, and what was left out."""
        part = self.rewards.accuracy_part
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        share, error = _of_benchmark(BENCHMARKS[self.name], groups) if self.name else _accuracy(groups, part)
        published = {"published": BENCHMARKS[self.name].published} if self.name else {}
        return {
            **published,
            "accuracy": share,
            "standard_error": error,
            "response_tokens": fmean(len(r.completion.token_ids) for r in rollouts),
            "problems": len(groups),
            "unscored": sum(r.right(part) is None for r in rollouts),
            "truncated": sum(r.completion.finish_reason == "length" for r in rollouts),
        }


def held_out_sets(config: EvaluateConfig, images: Path) -> list[HeldOut]:
    """All of them, read and checked.

    Args:
        images: folder of the image store.

    Raises:
        DataError: a file is missing or has rows that break a rule.
    """
    store, sets = ImageStore(images), []
    if config.data.problems is not None and config.rewards is not None:
        loaded = load_problems(
            config.data.problems,
            "data.problems",
            on_bad_row=config.data.on_bad_row,
            store=store,
            write_choices=config.data.write_choices,
        )
        sets.append(HeldOut(loaded.problems, config.rewards, bad_rows=loaded.bad_rows, notes=loaded.notes))
    for name in config.benchmarks:
        reader = benchmark_reader(name, Path(config.benchmarks_folder).expanduser(), store)
        problems = [problem for _, problem in reader]
        reader.check(config.data.on_bad_row)
        notes = [f"{name}: {ours}"] if (ours := BENCHMARKS[name].ours) else []
        notes += reader.notes(write_choices=config.data.write_choices)
        sets.append(HeldOut(problems, _rule(BENCHMARKS[name]), name, reader.bad_rows, notes))
    for one in sets:
        where = f"benchmarks.{one.name}" if one.name else "data.problems"
        one.notes.extend(check_answers(ScoringSpec.from_config(one.rewards), evenly_spread(one.problems), where))
    return sets


def _rule(benchmark: Benchmark) -> RewardsConfig:
    args = {"rule": benchmark.rule, "alternatives": benchmark.alternatives}
    part = {"use": "rewards.benchmark:BenchmarkAnswer", "weight": 1.0, "args": args}
    return RewardsConfig.model_validate({"parts": {PART: part}})


def _accuracy(groups: Sequence[Group], part: str) -> tuple[float | None, float | None]:
    """The share of responses that are right, with its standard error. Unscored responses are left out.

    The responses to one problem are alike, so the error counts problems: with n_i scored responses, c_i of them right,
    to problem i of m, it is sqrt(m / (m - 1) * sum (c_i - accuracy * n_i)^2) / sum n_i (that of a ratio; Cochran,
    Sampling Techniques, section 6.3).
    """
    share = accuracy((rollout for group in groups for rollout in group.rollouts), part)
    verdicts = [[right for r in group.rollouts if (right := r.right(part)) is not None] for group in groups]
    verdicts = [known for known in verdicts if known]
    if share is None or len(verdicts) < 2:
        return share, None
    spread = sum((sum(known) - share * len(known)) ** 2 for known in verdicts)
    return share, math.sqrt(len(verdicts) / (len(verdicts) - 1) * spread) / sum(map(len, verdicts))


def _of_benchmark(benchmark: Benchmark, groups: Sequence[Group]) -> tuple[float | None, float | None]:
    """The benchmark's number, over the first response to every problem, the second, and so on; the mean of these. The
    standard error is that of one of them, since responses to the same problems say nothing new about other problems."""
    found = []
    for number in range(max((len(group.rollouts) for group in groups), default=0)):
        scored = []
        for group in groups:
            score = group.rollouts[number].scores.get(PART) if number < len(group.rollouts) else None
            if score is not None and score.value is not None:
                scored.append(ScoredResponse(group.prompt.problem.meta, score.value))
        found.append(total(benchmark, scored))
    values = [value for value, _ in found if value is not None]
    errors = [error for _, error in found if error is not None]
    return (fmean(values) if values else None), (fmean(errors) if errors else None)
