"""What building data costs: fusing a million scored rows, deciding on them, and running a finished filter again.

    python benchmarks/filter.py [--rows 1000000] [--run FINISHED_FILTER.yaml]

Rows are made from a seed: 8 responses per problem of about 120 words, scored; nine direct answers per chain of thought.
With ``--run`` the configuration of a finished ``sailrl filter`` is run once more and its seconds per problem printed.
Seconds are the clock's; those of the processor stand beside them, because a busy machine stretches only the former. The
last line is the seconds that fusing took; the exit code is 1 above ``--at-most`` seconds of the processor or
``--at-most-gb``.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TEXT = "we note that the total of each group is then given by the sum so let us check this step again"
PER_PROBLEM = 8


def make_rows(folder: Path, rows: int) -> None:
    """Writes ``scored.jsonl`` with so many rows, and direct answers for all problems in it."""
    rng, words = random.Random(0), TEXT.split()
    with (folder / "scored.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            problem, value = number // PER_PROBLEM, float(rng.random() < 0.4)
            score = {"value": value, "status": "scored", "reason": "exact"}
            thought = " ".join(rng.choices(words, k=120))
            row = {
                "id": f"p{problem}",
                "prompt": f"Question {problem}: how many?",
                "answer": str(problem),
                "response": f"<think>{thought}</think>\\boxed{{{problem}}}",
                "response_tokens": rng.randint(100, 200),
                "finish_reason": "stop",
                "reward": value,
                "scores": {"boxed": score, "think_format": score | {"value": 1.0}},
            }
            file.write(json.dumps(row) + "\n")
    with (folder / "direct.jsonl").open("w", encoding="utf-8") as file:
        for number in range(9 * rows // PER_PROBLEM):
            file.write(json.dumps({"prompt": f"Direct {number}?", "answer": f"answer {number}"}) + "\n")


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    seconds: float
    processor_s: float
    gb: float
    """Peak memory of the largest command so far."""

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.processor_s:.1f} s of processor), at most {self.gb:.2f} GB"


def cost_of(*arguments: str, folder: Path) -> Cost:
    """Runs ``sailrl`` in a process of its own."""
    code = "from sailrl.cli import main; main()"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, check=True, stdout=sys.stderr)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, processor_s, after.ru_maxrss / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--run", type=Path, help="configuration of a filter that has finished")
    parser.add_argument("--at-most", type=float, default=120.0, help="seconds of processor")
    parser.add_argument("--at-most-gb", type=float, default=2.0)
    arguments = parser.parse_args()
    if arguments.run is not None:
        print(f"a finished filter, run again: {cost_of('filter', str(arguments.run.resolve()), folder=Path.cwd())}")
    with tempfile.TemporaryDirectory(prefix="sailrl-filter-") as scratch:
        folder = Path(scratch)
        make_rows(folder, arguments.rows)
        (folder / "fuse.yaml").write_text(
            "kind: fuse\ncot: [scored.jsonl]\ndirect: [{path: direct.jsonl}]\n", encoding="utf-8"
        )
        (folder / "filter.yaml").write_text("kind: filter\nscored: scored.jsonl\n", encoding="utf-8")
        fuse = cost_of("fuse", "fuse.yaml", folder=folder)
        decide = cost_of("filter", "filter.yaml", folder=folder)
    print(f"deciding on {arguments.rows:,} scored rows: {decide}")
    print(f"fusing {arguments.rows:,} scored rows: {fuse}")
    print(f"{fuse.seconds:.1f}")
    if fuse.processor_s > arguments.at_most or fuse.gb > arguments.at_most_gb:
        sys.exit(1)


if __name__ == "__main__":
    main()
