"""Does half precision learn what float32 learns? SmolLM2-135M on small sums, in each precision with several seeds.

    python -m benchmarks.precision --dir DIR    # DIR keeps the runs; a finished one is not run again

All runs are ``configs/smollm2.yaml`` with fewer updates, one after another, without any setting of the probe. Printed
is a Markdown table: held-out accuracy before and after by seed, the gain with its standard deviation over seeds, and
how far engine and learner are apart: on the probe's prompts (the largest numbers of all publishes) and on responses.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "smollm2.yaml"
DTYPES = ("float32", "bfloat16", "float16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--rollouts", type=int, default=16, help="responses per update, in groups of eight")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--dir", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sailrl-precision-") as scratch:
        work = given.dir or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for seed in range(given.seeds):  # seed by seed, so that a run that is cut short has all precisions
            for dtype in given.dtypes:
                _run(work / f"{dtype}-{seed}", dtype, seed, given.updates, given.rollouts)
        print(f"{given.updates} updates on {given.rollouts} responses each, seeds 0 to {given.seeds - 1}\n")
        print("| `model.dtype` | held out, by seed | gain, points | probe: mean, p99, max in nats | responses: mean |")
        print("|---|---|---|---|---|")
        for dtype in given.dtypes:
            print(_row(dtype, [_lines(work / f"{dtype}-{seed}") for seed in range(given.seeds)]))


def _run(folder: Path, dtype: str, seed: int, updates: int, rollouts: int) -> None:
    command = ["sailrl", "run", str(CONFIG), f"run.dir={folder}", f"run.seed={seed}", f"model.dtype={dtype}"]
    command += [f"batch.episodes={updates}", f"batch.rollouts_per_episode={rollouts}"]
    command += [f"batch.rollouts_per_update={rollouts}", f"eval.every_episodes={updates}"]
    command += ["checkpoint.every_episodes=1000"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    print(f"{folder.name} is done, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _row(dtype: str, runs: Sequence[Sequence[dict[str, Any]]]) -> str:
    """One line of the table, of the metrics of one precision's runs."""
    held_out = [[line["eval/accuracy"] for line in lines if "eval/accuracy" in line] for lines in runs]
    gains = [100 * (shares[-1] - shares[0]) for shares in held_out]
    updates = [line for lines in runs for line in lines if "grad_norm" in line]
    spread = f" ± {statistics.stdev(gains):.1f}" if len(gains) > 1 else ""
    climbs = ", ".join(f"{shares[0]:.1%} → {shares[-1]:.1%}" for shares in held_out)
    largest = [max(line[f"sync/{name}_abs_dlogp"] for line in updates) for name in ("mean", "p99", "max")]
    probe = ", ".join(f"{value:.2g}" for value in largest)
    responses = statistics.fmean(line["mismatch/mean_abs_dlogp"] for line in updates)
    return f"| {dtype} | {climbs} | {statistics.fmean(gains):+.1f}{spread} | {probe} | {responses:.2g} |"


if __name__ == "__main__":
    main()
