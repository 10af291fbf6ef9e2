"""What each ingredient of the recipe does on the tiny models, on the real engine: updates to a fixed accuracy, and the
accuracy at the end.

    python benchmarks/algos.py                                # 8 variants x 3 seeds, some 25 minutes (an estimate)
    python benchmarks/algos.py --minutes 10                   # starts no run after 10 minutes; the next call goes on
    python benchmarks/algos.py --seeds 1 --only dapo,dapo-adaptive --episodes 40

Every run is a `sailrl run` in a folder of its own under --dir: what is finished is only read, what was interrupted
resumes. All runs of a model start from one warm start and differ in the seed of sampling. An episode is 256 rollouts in
4 updates, so that from the second update on the ratio is not 1 and a clip can matter.

Accuracy to a target is that of the sampled responses, dropped groups too, over three episodes (some 1,000 responses to
problems seen for the first time); final accuracy is held out, 256 problems x 4 samples at temperature 1. A run that
never got there counts as not reached and leaves the mean. A toy: additions of two digits on a model of under 2 million
parameters say whether a method works here, not which is best on a real one. The last line is the ratio of updates that
GSPO needs on the mixture of experts over those of GRPO; below 1, GSPO needs fewer (nan where one is missing).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DENSE, MOE = ROOT / "configs" / "rlvr_tiny_text.yaml", ROOT / "configs" / "gspo_tiny.yaml"
COMMON = (
    "batch.rollouts_per_update=64",
    "checkpoint.every_episodes=5",
    "eval.every_episodes=1000",  # before the first update and after the last only
    "eval.samples=4",
    "eval.temperature=1.0",
    "rewards.deadline_s=60",
)
WINDOW = 3
"""Episodes over which sampled accuracy is averaged."""
CLIP_HIGHER = "algorithm={name: dapo, clip: {mode: asymmetric}}"
OVERLONG = (
    "rewards.parts.overlong={use: 'rewards.overlong:SoftOverlong', weight: 0.5, penalty: true, "
    "args: {max_response_tokens: 48, buffer_tokens: 10}}"
)
VARIANTS: dict[str, tuple[Path, tuple[str, ...]]] = {
    "dapo": (DENSE, (CLIP_HIGHER,)),
    "dapo-adaptive": (DENSE, ("algorithm={name: dapo, clip: {mode: adaptive, baseline_episodes: 3}}",)),
    "no-clip-higher": (DENSE, ("algorithm={name: dapo, clip: {mode: asymmetric, high: 0.2}}",)),
    "no-dynamic-sampling": (DENSE, (CLIP_HIGHER, "rollout.dynamic_sampling.enabled=false")),
    "no-token-level": (DENSE, ("algorithm={name: grpo, clip: {mode: asymmetric, high: 0.28}}",)),
    "overlong-shaping": (DENSE, (CLIP_HIGHER, OVERLONG)),
    "moe-gspo": (MOE, ()),
    "moe-grpo": (MOE, ("algorithm={name: grpo}",)),
}
"""The rows of the table: a shipped configuration and what differs from it."""


@dataclass(frozen=True)
class Outcome:
    """How one run went."""

    start: float
    final: float
    reached: int | None
    """Updates behind the last of the first three episodes in a row that met the target; None: never."""
    rollouts: float
    """Responses sampled, dropped ones too, in thousands."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=ROOT / "runs" / "algos", help="where the runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--target", type=float, default=0.3, help="sampled accuracy to reach")
    parser.add_argument("--only", default=",".join(VARIANTS), help="comma-separated names of variants")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no further run after this long")
    given = parser.parse_args()
    names, stop_at = given.only.split(","), time.monotonic() + 60 * given.minutes
    for seed in range(given.seeds):
        for name in names:
            folder = given.dir / f"{name}-{seed}"
            if _lines(folder) is None and time.monotonic() < stop_at:
                _run(given.dir, folder, name, seed, given.episodes)
    outcomes = {name: [_lines(given.dir / f"{name}-{seed}") for seed in range(given.seeds)] for name in names}
    _print(
        {name: [_outcome(run, given.target) for run in runs if run] for name, runs in outcomes.items()}, given.target
    )


def _run(work: Path, folder: Path, name: str, seed: int, episodes: int) -> None:
    """Starts or resumes one run; a failed one is reported, and tried again by the next call."""
    config, overrides = VARIANTS[name]
    prepared = work / config.stem  # built and warm-started once per model
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("model", "warm_start"):
        if (prepared / part).is_dir() and not (folder / part).is_dir():
            shutil.copytree(prepared / part, folder / part)
    command = [str(Path(sys.executable).with_name("sailrl")), "run", str(config), f"run.dir={folder}"]
    settings = [*COMMON, *overrides, f"batch.episodes={episodes}", f"run.seed={seed}"]
    began = time.monotonic()
    done = subprocess.run([*command, *settings], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{folder.name} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return
    print(f"{folder.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if not prepared.is_dir():
        for part in ("model", "warm_start"):
            shutil.copytree(folder / part, prepared / part)


def _lines(folder: Path) -> list[dict[str, Any]] | None:
    """The metrics of a finished run, which ends with its second held-out evaluation; None for any other."""
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return lines if sum("eval/accuracy" in line for line in lines) > 1 else None


def _outcome(lines: list[dict[str, Any]], target: float) -> Outcome:
    held_out = [line["eval/accuracy"] for line in lines if "eval/accuracy" in line]
    episodes = list({line["episode"]: line for line in lines if "accuracy" in line}.values())
    before = [0, *(line["step"] for line in episodes)]  # updates behind the responses of each episode
    recent = {
        before[i]: statistics.mean(episode["accuracy"] for episode in episodes[i - WINDOW + 1 : i + 1])
        for i in range(WINDOW - 1, len(episodes))
    }
    return Outcome(
        start=held_out[0],
        final=held_out[-1],
        reached=min((updates for updates, mean in recent.items() if mean >= target), default=None),
        rollouts=sum(e["groups/kept"] + e["groups/dropped"] for e in episodes) * 8 / 1000,
    )


def _print(outcomes: dict[str, list[Outcome]], target: float) -> None:
    needed = f"updates to {target:.0%}"
    print(f"{'':20} {'runs':>4} {'start':>7} {'final':>7} {'low':>7} {'high':>7} {needed:>22} {'sampled':>8}")
    for name, runs in outcomes.items():
        if not runs:
            print(f"{name:20} {0:4}")
            continue
        final, reached = [run.final for run in runs], [run.reached for run in runs if run.reached is not None]
        each = "/".join("never" if run.reached is None else str(run.reached) for run in runs)
        values = (statistics.mean(run.start for run in runs), statistics.mean(final), min(final), max(final))
        there = f"{statistics.mean(reached):.0f} ({each})" if reached else "never"
        sampled = statistics.mean(run.rollouts for run in runs)
        print(f"{name:20} {len(runs):4} {' '.join(f'{v:7.1%}' for v in values)} {there:>22} {sampled:7.1f}k")
    print(f"ratio {_needed(outcomes, 'moe-gspo') / _needed(outcomes, 'moe-grpo'):.2f}")


def _needed(outcomes: dict[str, list[Outcome]], name: str) -> float:
    reached = [run.reached for run in outcomes.get(name, ()) if run.reached is not None]
    return statistics.mean(reached) if reached else math.nan


if __name__ == "__main__":
    main()
