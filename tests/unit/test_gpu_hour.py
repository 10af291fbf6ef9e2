"""The first hour on a GPU, as far as it can be tried without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu_hour import RUNS, row, run_config, table
from sailrl.config.load import load


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("tiny", [True, False])
def test_every_run_is_a_configuration(name: str, tiny: bool, tmp_path: Path) -> None:
    experts, sync = RUNS[name]
    config = load(run_config(tmp_path, experts, sync, tiny=tiny)).config
    assert (config.kind, config.sync.method) == ("rlvr", sync)  # type: ignore[attr-defined]


def test_a_row_has_the_longest_time_and_the_last_of_everything_else() -> None:
    lines = [
        {"tokens/trained_per_s": 10.0, "time/sync_s": 3.0, "time/checkpoint_s": 0.0},
        {"tokens/trained_per_s": 20.0, "time/sync_s": 2.0, "time/checkpoint_s": 1.5},
        {"tokens/trained_per_s": 30.0, "time/sync_s": 0.0, "time/checkpoint_s": 0.0},
    ]
    got = row("dense", lines)
    assert (got["trained tokens/s"], got["publish s"], got["checkpoint s"]) == ("30", "3", "1.5")
    assert got["mean dlogp"] == "-"


def test_the_table_is_markdown() -> None:
    assert table([{"run": "a", "x": "1"}, {"run": "b", "x": "2"}]) == "| run | x |\n| --- | --- |\n| a | 1 |\n| b | 2 |"
