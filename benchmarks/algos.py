"""What each ingredient of the recipe does on the tiny models, on the real engine: updates to a fixed accuracy, and the
accuracy at the end.

    python -m benchmarks.algos                                # 8 variants x 3 seeds, two engine starts, some 35 minutes
    python -m benchmarks.algos --minutes 10                   # starts no run after 10 minutes; the next call goes on
    python -m benchmarks.algos --seeds 1 --only dapo,dapo-adaptive --episodes 4

Every run has a folder of its own under --dir: what is finished is only read, what was interrupted is done again. All
runs of a model start from one warm start, share one engine, one after another, and differ in the seed, which draws the
problems and samples the responses: the same seed begins the same way in every variant, so variants are compared seed by
seed. An episode is 256 rollouts in 8 updates (4 mini-batches, 2 passes, as in the papers), so that from the second
update on the ratio is not 1 and a clip can matter.

Accuracy is held out, after every episode: 256 problems x 2 samples at temperature 1. Updates to a target are read off
the straight line between the evaluations around it; a run that never got there counts as not reached, and leaves the
mean. `final` is the mean of the last three evaluations, `mean` that of all. `gain` is `final` less that of the base
variant (dapo, moe-grpo) with the same seed, its mean over the seeds and the half width of its 95% interval (Student's
t); the line is marked only where that excludes 0, which among six lines happens by chance now and then.

A toy: additions of two digits on a model of under 2 million parameters say whether a method works here, not which is
best on a real one. The last line is the ratio of updates that GSPO needs on the mixture of experts over those of GRPO;
below 1, GSPO needs fewer (nan where one is missing).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.shared_engine import shared_engine
from sailrl.config.checks import validate
from sailrl.config.load import load
from sailrl.config.schema import RlvrConfig
from sailrl.errors import SailError

ROOT = Path(__file__).parents[1]
DENSE, MOE = ROOT / "configs" / "rlvr_tiny_text.yaml", ROOT / "configs" / "gspo_tiny.yaml"
COMMON = (
    "batch.rollouts_per_update=64",
    "batch.passes_per_episode=2",
    "rollout.max_response_tokens=28",  # answers take 18 to 23; what rambles on is cut off
    "checkpoint.every_episodes=1000",
    "eval.every_episodes=1",
    "eval.samples=2",
    "eval.temperature=1.0",
    "rewards.deadline_s=60",
)
CLIP_HIGHER = "algorithm={name: dapo, clip: {mode: asymmetric}}"
OVERLONG = (
    "rewards.parts.overlong={use: 'rewards.overlong:SoftOverlong', weight: 0.5, penalty: true, "
    "args: {max_response_tokens: 28, buffer_tokens: 5}}"
)
VARIANTS: dict[str, tuple[Path, tuple[str, ...]]] = {
    "dapo": (DENSE, (CLIP_HIGHER,)),
    "dapo-adaptive": (DENSE, ("algorithm={name: dapo, clip: {mode: adaptive, baseline_episodes: 2}}",)),
    "no-clip-higher": (DENSE, ("algorithm={name: dapo, clip: {mode: asymmetric, high: 0.2}}",)),
    "no-dynamic-sampling": (DENSE, (CLIP_HIGHER, "rollout.dynamic_sampling.enabled=false")),
    "no-token-level": (DENSE, ("algorithm={name: grpo, clip: {mode: asymmetric, high: 0.28}}",)),
    "overlong-shaping": (DENSE, (CLIP_HIGHER, OVERLONG)),
    "moe-grpo": (MOE, ("algorithm={name: grpo}",)),
    "moe-gspo": (MOE, ()),
}
"""The rows of the table: a shipped configuration and what differs from it."""
BASES = {DENSE: "dapo", MOE: "moe-grpo"}
TARGET = 0.25
"""Held-out accuracy that updates are counted to."""
LAST = 3
"""Evaluations whose mean counts as the accuracy at the end: one alone is good to about 2 points."""
T_95 = (math.nan, math.nan, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31)
"""Student's t, two-sided 95%, by number of values."""


@dataclass(frozen=True)
class Outcome:
    """How one run went."""

    accuracies: tuple[float, ...]
    """Held out, before the first episode and after each."""
    reached: float | None
    """Updates to the target accuracy; None: never."""
    rollouts: float
    """Responses sampled to learn from, dropped ones too, in thousands."""

    @property
    def final(self) -> float:
        return statistics.mean(self.accuracies[-LAST:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=ROOT / "runs" / "algos", help="where the runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--only", default=",".join(VARIANTS), help="comma-separated names of variants")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no further run after this long")
    given = parser.parse_args()
    names, stop_at = given.only.split(","), time.monotonic() + 60 * given.minutes
    for model in (DENSE, MOE):
        cells = [(name, seed) for seed in range(given.seeds) for name in names if VARIANTS[name][0] == model]
        todo = [(name, seed) for name, seed in cells if _lines(given.dir / f"{name}-{seed}", given.episodes) is None]
        if todo and time.monotonic() < stop_at:
            asyncio.run(_run(given.dir, model, todo, given.episodes, stop_at))
    _print(
        {
            name: {
                seed: _outcome(lines, TARGET)
                for seed in range(given.seeds)
                if (lines := _lines(given.dir / f"{name}-{seed}", given.episodes)) is not None
            }
            for name in names
        }
    )


async def _run(work: Path, model: Path, cells: Sequence[tuple[str, int]], episodes: int, stop_at: float) -> None:
    """Carries out the runs of a model on one engine; a failed one is reported, and tried again by the next call."""
    async with shared_engine(_config(model, (), 0, episodes), work / model.stem) as engine:
        for name, seed in cells:
            if time.monotonic() > stop_at:
                break
            began = time.monotonic()
            try:
                await engine.run(_config(model, VARIANTS[name][1], seed, episodes), work / f"{name}-{seed}")
            except SailError as error:
                print(f"{name}-{seed} failed: {error}", file=sys.stderr)
            else:
                print(f"{name}-{seed}: {time.monotonic() - began:.0f} s", file=sys.stderr)


def _config(model: Path, overrides: Sequence[str], seed: int, episodes: int) -> RlvrConfig:
    loaded = load(model, [*COMMON, *overrides, f"batch.episodes={episodes}", f"run.seed={seed}"])
    validate(loaded.config, loaded.where)
    assert isinstance(loaded.config, RlvrConfig)
    return loaded.config


def _lines(folder: Path, episodes: int) -> list[dict[str, Any]] | None:
    """The metrics of a finished run, which has an evaluation per episode and one before; None for any other."""
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    return lines if sum("eval/accuracy" in line for line in lines) == episodes + 1 else None


def _outcome(lines: list[dict[str, Any]], target: float) -> Outcome:
    held_out = [(line["step"], line["eval/accuracy"]) for line in lines if "eval/accuracy" in line]
    reached = (
        before + (after - before) * (target - low) / (high - low)
        for (before, low), (after, high) in pairwise(held_out)
        if low < target <= high
    )
    episodes = {line["episode"]: line for line in lines if "episode" in line}.values()
    return Outcome(
        accuracies=tuple(accuracy for _, accuracy in held_out),
        reached=next(reached, None),
        rollouts=sum(e["groups/kept"] + e["groups/dropped"] for e in episodes) * 8 / 1000,
    )


def _print(outcomes: dict[str, dict[int, Outcome]]) -> None:
    columns = f"{'start':>6} {'final':>6} {'low':>6} {'high':>6} {'mean':>6} {'sampled':>8}"
    print(f"{'':20} {'runs':>4} {columns}  {'gain':>14}    updates to target")
    for name, runs in outcomes.items():
        if not runs:
            print(f"{name:20} {0:4}")
            continue
        model = VARIANTS[name][0]
        final = [run.final for run in runs.values()]
        means = [statistics.mean(run.accuracies) for run in runs.values()]
        values = (
            statistics.mean(run.accuracies[0] for run in runs.values()),
            statistics.mean(final),
            min(final),
            max(final),
            statistics.mean(means),
        )
        sampled = statistics.mean(run.rollouts for run in runs.values())
        each = " / ".join("never" if run.reached is None else f"{run.reached:.0f}" for run in runs.values())
        gain = _gain(runs, outcomes.get(BASES[model], {}) if name != BASES[model] else {})
        there = f"{_needed(runs):5.1f} to {TARGET:.0%} ({each})"
        print(f"{name:20} {len(runs):4} {' '.join(f'{v:6.1%}' for v in values)} {sampled:7.1f}k  {gain:17} {there}")
    gspo, grpo = (_needed(outcomes.get(name, {})) for name in ("moe-gspo", "moe-grpo"))
    if not math.isnan(gspo / grpo):
        print(f"ratio {gspo / grpo:.2f}")


def _gain(runs: dict[int, Outcome], base: dict[int, Outcome]) -> str:
    """Final accuracy less that of the base variant, over the seeds that both have done, in points."""
    gains = [100 * (run.final - base[seed].final) for seed, run in runs.items() if seed in base]
    if len(gains) < 2:
        return ""
    mean, half = statistics.mean(gains), T_95[len(gains)] * statistics.stdev(gains) / math.sqrt(len(gains))
    return f"{mean:+5.1f} +- {half:4.1f} {'*' if abs(mean) > half else ' '}"


def _needed(runs: dict[int, Outcome]) -> float:
    reached = [run.reached for run in runs.values() if run.reached is not None]
    return statistics.mean(reached) if reached else math.nan


if __name__ == "__main__":
    main()
