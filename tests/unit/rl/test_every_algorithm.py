"""Every algorithm goes through the whole loop and logs every number of the contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sailrl.report.metrics import RLVR_KEYS
from tests.fakes.local_run import LocalRun, make_config


@pytest.mark.parametrize("name", ["dapo", "gspo", "gspo_token", "grpo", "dr_grpo", "cispo", "sapo", "vespo"])
def test_every_algorithm_runs_an_episode(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    config = make_config(
        algorithm={"name": name}, mismatch={"correction": {"kind": "icepop"}}, batch={"episodes": 1}, eval={}
    )
    run = LocalRun(config, tmp_path, tiny_folder, eval_prompts=0).train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 4  # 2 updates in each of 2 passes
    assert not set(RLVR_KEYS) - lines[0].keys()
    assert "nonfinite" not in lines[-1]
    assert lines[-1]["ratio/max"] != pytest.approx(1.0, abs=1e-6)  # the policy has moved
    assert (lines[-1]["clip/high"] is None) == (name in ("sapo", "vespo"))
    assert run.session.state.version == 1
