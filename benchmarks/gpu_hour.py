"""The first hour on a GPU, in order, and one Markdown table for RESULTS.md. It stops at the first thing that is wrong.

    make gpu                                     # on a machine with one GPU: under 15 minutes, nothing is downloaded
    python -m benchmarks.gpu_hour --tiny         # anywhere: the same steps on toys, without tests/gpu

1. ``tests/gpu``: kernels, sharding, weight sync.
2. ``benchmarks/gpu_learner.py``: tokens per second, MFU and peak memory of the learner, dense and with experts.
3. Runs of two episodes by ``sailrl run``, engine and learner on one GPU: dense and with experts, with pictures, in
   bfloat16, weights sent by disk and by ipc. A row has what metrics.jsonl says: tokens per second and the differences
   between engine and learner in nats at the end, and the longest publish and checkpoint in seconds.

Models are built from configurations with random weights, so rewards mean nothing here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_learner

ROOT = Path(__file__).parents[1]
RUNS = {
    "dense, disk": (0, "disk"),
    "dense, ipc": (0, "ipc"),
    "experts, disk": (8, "disk"),
    "experts, ipc": (8, "ipc"),
}
"""Number of experts, and how weights are sent."""
COLUMNS = {
    "trained tokens/s": "tokens/trained_per_s",
    "mean dlogp": "sync/mean_abs_dlogp",
    "99% dlogp": "sync/p99_abs_dlogp",
    "max dlogp": "sync/max_abs_dlogp",
    "publish s": "time/sync_s",
    "checkpoint s": "time/checkpoint_s",
}


def run_config(folder: Path, experts: int, sync: str, *, tiny: bool) -> Path:
    """Writes the configuration of a run of two episodes."""

    config: dict[str, Any] = {
        "kind": "rlvr",
        "run": {"dir": str(folder / "run"), "seed": 0},
        "model": {
            "build": {
                "use": "sailrl.demo.tiny_vlm:build",
                "args": {"hidden_size": 64 if tiny else 1024, "experts": experts},
            },
            "dtype": "bfloat16",
        },
        "data": {
            "train": {"generate": {"use": "sailrl.demo.pictures:rows", "args": {"count": 64, "seed": 2}}},
            "instruction": "",
            "max_prompt_tokens": 64,
        },
        "rewards": {"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
        "batch": {
            "group_size": 4,
            "rollouts_per_episode": 16 if tiny else 128,
            "rollouts_per_update": 8 if tiny else 64,
            "passes_per_episode": 1,
            "episodes": 2,
        },
        "rollout": {
            "max_response_tokens": 16 if tiny else 512,
            "dynamic_sampling": {"enabled": False},
            "engine": {"enforce_eager": tiny},
        },
        "algorithm": {"name": "gspo" if experts else "dapo"},
        "learner": {"learning_rate": 1e-6, "max_tokens_per_microbatch": 1024 if tiny else 16384},
        "sync": {"method": sync},
        "checkpoint": {"every_episodes": 1},
    }
    if not tiny:
        config["placement"] = "colocated"
    path = folder / "run.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return path


def measured(name: str, *, tiny: bool) -> dict[str, str]:
    """Makes a run and returns its row. Raises SystemExit with its output when it fails."""
    experts, sync = RUNS[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = ["sailrl", "run", str(run_config(folder, experts, sync, tiny=tiny))]
        done = subprocess.run(
            [str(Path(sys.executable).with_name("sailrl")), *command[1:]], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{name}: {' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return row(name, [json.loads(line) for line in lines])


def row(name: str, lines: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """A row of the table: of times the longest, of everything else the last value; a dash where there is none."""
    values: dict[str, float | None] = {}
    for title, key in COLUMNS.items():
        found = [line[key] for line in lines if key in line]
        values[title] = None if not found else max(found) if key.startswith("time/") else found[-1]
    return {"run": name} | {title: "-" if value is None else f"{value:.3g}" for title, value in values.items()}


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table of rows with the same keys."""
    titles = list(rows[0])
    lines = [titles, ["---"] * len(titles), *([of[title] for title in titles] for of in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toys, to see that it runs")
    options = parser.parse_args()
    if not options.tiny:
        if not torch.cuda.is_available():
            print("There is no GPU here. With --tiny the same steps run on a CPU.", file=sys.stderr)
            return 2
        tests = [sys.executable, "-m", "pytest", "-q", "-x", "tests/gpu"]
        if code := subprocess.run(tests, cwd=ROOT, check=False).returncode:
            print("tests/gpu failed: see above. Nothing was measured.", file=sys.stderr)
            return code
    learner = [sys.executable, "-m", "benchmarks.gpu_learner", *(["--tiny"] if options.tiny else [])]
    if code := subprocess.run(learner, cwd=ROOT, check=False).returncode:
        print(f"{' '.join(learner[1:])} failed: see above.", file=sys.stderr)
        return code
    rows = []
    for name in RUNS:
        if options.tiny and RUNS[name][1] != "disk":
            continue  # the other ways need a GPU
        print(f"run: {name} ...", file=sys.stderr, flush=True)
        rows.append(measured(name, tiny=options.tiny))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"\n{gpu_learner.device_name(device)}, torch {torch.__version__}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
