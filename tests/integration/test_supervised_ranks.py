"""A supervised stage on two ranks in Ray goes on from what one rank learned in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sailrl.commands.run import run_stage
from sailrl.config.sft import SftConfig
from sailrl.demo import tiny_vlm
from sailrl.sft.start import MODEL

pytestmark = pytest.mark.slow


def _stage(model: Path, folder: Path, *, steps: int, ranks: int) -> None:
    rows = {"generate": {"use": "sailrl.demo.pictures:rows", "args": {"count": 10, "seed": 1}}}
    training = {"rows_per_step": 4, "steps": steps, "learning_rate": 1e-3, "schedule": "constant", "warmup_steps": 1}
    raw = {
        "kind": "sft",
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"train": rows},
        "training": training,
        "learner": {"ranks": ranks, "threads": 1},
    }
    shutil.rmtree(folder / MODEL, ignore_errors=True)  # a finished stage would do nothing
    run_stage(SftConfig.model_validate(raw), folder)


def _lines(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith(("time/", "tokens/"))} for line in lines]


def test_two_ranks_go_on_from_the_checkpoint_of_one_as_it_would_have(tmp_path: Path) -> None:
    model, alone, shared = tmp_path / "model", tmp_path / "alone", tmp_path / "shared"
    tiny_vlm.build(model, hidden_size=32)
    _stage(model, alone, steps=5, ranks=1)
    _stage(model, shared, steps=3, ranks=1)
    _stage(model, shared, steps=5, ranks=2)
    whole, lines = _lines(alone), _lines(shared)
    # 10 rows in steps of 4, 4 and 2; the rate rises from 0 over one step.
    assert [line["learning_rate"] for line in whole] == [0.0, *[1e-3] * 4]
    assert lines[:3] == whole[:3]
    # The last less: Adam makes a whole step of gradients that are rounding alone.
    assert lines[3] == pytest.approx(whole[3], rel=1e-5)
    assert lines[4] == pytest.approx(whole[4], rel=1e-2)
    learned, expected = (load_file(folder / MODEL / "model.safetensors") for folder in (shared, alone))
    # Four steps have moved weights by up to 4e-3.
    assert all(torch.allclose(learned[name], expected[name], rtol=0, atol=1e-3) for name in expected)
    start = load_file(model / "model.safetensors")
    assert not all(torch.allclose(start[name], expected[name], rtol=0, atol=1e-3) for name in expected)
