"""The shortened demo with generation going on while the learner learns: real Ray, real vLLM, one whole run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import SHORT, run

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]


def test_an_asynchronous_run_keeps_its_bound_and_loses_nothing(fresh_folder: Callable[[], Path]) -> None:
    folder = fresh_folder()
    asked = ("run.deterministic=false", "rollout.max_staleness=1", "learner.threads=1", "batch.passes_per_episode=1")
    done = run(folder, *SHORT, *asked)
    assert done.code == 0, done.output

    updates = [line for line in done.metrics() if "grad_norm" in line]
    assert [line["step"] for line in updates] == list(range(1, 9))  # 4 episodes x 2 updates
    assert all(line["staleness/max"] <= 1 and line["groups/kept"] == 8 for line in updates)
    assert max(line["staleness/max"] for line in updates) == 1  # it did overlap
    assert updates[0]["mismatch/max_abs_dlogp"] < 1e-4  # fresh: engine and learner agree but for rounding
    assert all(line["mismatch/k3"] < 0.1 for line in updates)  # stale: they differ by what was learned in one episode

    rows = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["kept"]]
    assert sorted({(row["episode"], row["group"]) for row in kept}) == [(e, g) for e in range(1, 5) for g in range(8)]
    assert len(kept) == 4 * 64
    assert len({(row["id"], row["rollout"]) for row in rows}) == len(rows)  # 256 problems: none was drawn twice
    for row in kept:
        starts, versions = zip((0, row["version"]), *row["switches"], strict=True)
        assert list(starts) == sorted(set(starts))
        assert starts[-1] < row["response_tokens"]
        assert list(versions) == sorted(set(versions))
        assert versions[-1] <= row["episode"] - 1 <= versions[0] + 1
