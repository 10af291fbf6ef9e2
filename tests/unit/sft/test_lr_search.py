"""AdaLRS in a stage: what was tried in vain leaves no trace but the lower rate, and a resumed search goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sailrl.config.sft import SftConfig
from sailrl.launch.sealed import CHECKPOINTS
from sailrl.sft.start import MODEL, STEPS, start_sft

ROWS = {"generate": {"use": "sailrl.demo.additions:rows", "args": {"count": 48, "seed": 1}}}


TIMING = ("time/", "tokens/trained_per_s")


def _run(model: Path, folder: Path, steps: int, *, every: int = 3, **search: Any) -> list[dict[str, Any]]:
    training: dict[str, Any] = {"rows_per_step": 4, "steps": steps, "learning_rate": 1e-3, "schedule": "constant"}
    if search:
        # Shares are of the whole stage: the search ends after as many steps however long it is.
        shares = {"first_share": 2 / steps, "last_share": 8 / steps}
        training["lr_search"] = {"window_steps": 3, **shares, **search}
    config = {
        "kind": "sft",
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"train": ROWS, "instruction": ""},
        "training": training,
        "checkpoint": {"every_steps": every, "keep": 9},
    }
    start_sft(SftConfig.model_validate(config), folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith(TIMING)} for line in lines]


def test_a_rate_tried_in_vain_is_undone(tiny_folder: Path, tmp_path: Path) -> None:
    # No slope beats a margin of 1,000 nats per step: the rate of steps 6 to 8 is undone, and the old one goes on.
    lines = _run(tiny_folder, tmp_path / "searched", 9, every=1, margin=1000.0)
    # Steps 1 and 2 are before the search, 3 to 5 measure, 6 to 8 try three times the rate, 9 has the old one again.
    assert [round(line["learning_rate"], 9) for line in lines] == [1e-3] * 5 + [3e-3] * 3 + [1e-3]
    # Checkpoints that are due while the rate is tried wait: what 6 to 8 learned is gone from that of 8.
    assert [STEPS.number(folder) for folder in STEPS.folders(tmp_path / "searched")] == [1, 2, 3, 4, 8, 9]
    _run(tiny_folder, tmp_path / "plain", 6, every=1)
    eight, nine = (_state(tmp_path / "searched", n) for n in (8, 9))
    five, six = (_state(tmp_path / "plain", n) for n in (5, 6))
    assert all(torch.equal(five[name], eight[name]) for name in five)
    assert not all(torch.equal(six[name], eight[name]) for name in six)
    assert not all(torch.equal(nine[name], eight[name]) for name in nine)


def _state(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint, and AdamW's moments and step counts."""
    checkpoint = folder / CHECKPOINTS / f"checkpoint-{step}"
    files = [checkpoint / "model" / "model.safetensors", *checkpoint.glob("learner-*.safetensors")]
    return {name: value for file in files for name, value in load_file(file).items()}


def test_a_search_that_was_killed_goes_on_bit_for_bit(tiny_folder: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    lines = _run(tiny_folder, whole, 10, margin=1000.0)
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / MODEL)
    assert [STEPS.number(folder) for folder in STEPS.folders(broken)] == [3, 8, 9, 10]
    for later in STEPS.folders(broken)[1:]:  # as if killed in the trial of steps 6 to 8
        shutil.rmtree(later)
    assert _run(tiny_folder, broken, 10, margin=1000.0) == lines
    mine, theirs = (load_file(folder / MODEL / "model.safetensors") for folder in (broken, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
