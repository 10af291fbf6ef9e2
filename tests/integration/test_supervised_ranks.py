"""A supervised stage on two ranks in Ray goes on from what one rank learned in this process."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

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
        "checkpoint": {"every_steps": 5},
    }
    shutil.rmtree(folder / MODEL, ignore_errors=True)  # a finished stage would do nothing
    run_stage(SftConfig.model_validate(raw), folder)


def _lines(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith(("time/", "tokens/"))} for line in lines]


def _kill_a_rank_after(step: int, folder: Path) -> None:
    deadline = time.monotonic() + 240
    while len((folder / "metrics.jsonl").read_text().splitlines()) < step and time.monotonic() < deadline:
        time.sleep(0.02)
    ranks = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::LearnerActor")]
    ranks[-1].kill()


def test_two_ranks_go_on_from_the_checkpoint_of_one_and_again_when_one_of_them_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, alone, shared = tmp_path / "model", tmp_path / "alone", tmp_path / "shared"
    tiny_vlm.build(model, hidden_size=32)
    _stage(model, alone, steps=15, ranks=1)
    _stage(model, shared, steps=3, ranks=1)
    killer = threading.Thread(target=_kill_a_rank_after, args=(7, shared))
    killer.start()
    _stage(model, shared, steps=15, ranks=2)
    killer.join()
    said = capsys.readouterr().err
    assert "learner rank 1 died in " in said or "learner rank 0 died in " in said
    assert said.count("starting again from the last checkpoint (1 of 3)") == 1
    whole, lines = _lines(alone), _lines(shared)
    # 10 rows in steps of 4, 4 and 2; the rate rises from 0 over one step.
    assert [line["learning_rate"] for line in whole] == [0.0, *[1e-3] * 14]
    assert lines[:3] == whole[:3]
    assert lines[3] == pytest.approx(whole[3], rel=1e-5)
    # Later ones less: Adam makes a whole step of gradients that are rounding alone.
    assert [line["nll"] for line in lines] == pytest.approx([line["nll"] for line in whole], rel=0.01)
    assert whole[-1]["nll"] < 0.95 * whole[0]["nll"]
    assert [line["step"] for line in lines] == list(range(1, 16))
    assert (shared / MODEL / "model.safetensors").is_file()
