"""A shortened recipe through real engines: every stage works on what the one before has made, a judge runs beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM

from tests.integration.conftest import ROOT, run

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]


def _short() -> dict[str, Any]:
    """The tiny cycle with one RL stage that the judge scores, and hardly any steps."""
    recipe: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "cycle_tiny.yaml").read_text())
    stages = recipe["stages"]
    mixed = stages.pop("mixed")
    del stages["filter"], stages["hard"]
    rows = {"use": "sailrl.demo.additions:rows"}
    stages["longcot"]["data"]["train"] = {"generate": {**rows, "args": {"count": 3840, "seed": 1}}}
    stages["rlvr"]["data"]["train"] = {"generate": {**rows, "args": {"count": 64, "seed": 2, "task": "open"}}}
    stages["rlvr"]["rewards"] = mixed["rewards"]
    stages["rlvr"]["batch"] = {
        "group_size": 4,
        "rollouts_per_episode": 64,
        "rollouts_per_update": 64,
        "passes_per_episode": 1,
        "episodes": 2,
    }
    # Every group is kept: after 60 steps nearly all answers are wrong, and most groups would be dropped.
    stages["rlvr"]["rollout"]["dynamic_sampling"] = {"enabled": False}
    # Form is enough here for the same reason.
    stages["fuse"]["select"] = {"correct": "think_format", "well_formed": None}
    stages["think_fusion"]["training"]["epochs"] = 1
    compare = stages["compare"]
    del compare["models"]["mixed"]
    compare["data"]["problems"]["generate"]["args"]["count"] = 32
    return recipe


def test_the_recipe_runs_in_one_command_and_prints_a_table(tmp_path: Path) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text(yaml.safe_dump(_short(), sort_keys=False))
    done = run(tmp_path / "cycle", config=config)
    assert done.code == 0, done.output
    assert "compare: 32 held-out problems" in done.output
    assert all(name in done.output for name in ("longcot", "rlvr", "think_fusion", "thinking", "direct"))

    scored = [json.loads(line) for line in (done.folder / "rlvr" / "rollouts.jsonl").read_text().splitlines()]
    assert {row["scores"][name]["status"] for row in scored for name in ("answer", "thinking")} == {"scored"}
    fused = [json.loads(line) for line in (done.folder / "fuse" / "fused.jsonl").read_text().splitlines()]
    thoughts = sum(row["kind"] == "cot" for row in fused)
    assert abs(thoughts / len(fused) - 0.1) <= 1 / len(fused)
    AutoModelForCausalLM.from_pretrained(done.folder / "think_fusion" / "model")
    tried = [json.loads(line) for line in (done.folder / "compare" / "evals.jsonl").read_text().splitlines()]
    assert len(tried) == 6  # three models, asked in two ways
    tokens = {(line["model"], line["asked"]): line["response_tokens"] for line in tried}
    assert tokens["think_fusion", "direct"] < tokens["rlvr", "direct"]  # nine in ten of its rows answer directly
    assert tokens["think_fusion", "thinking"] > tokens["think_fusion", "direct"]

    again = run(done.folder, config=config)
    assert again.code == 0, again.output
    assert again.output.count("finished before") == 5
    assert "compare: 32 held-out problems" in again.output
