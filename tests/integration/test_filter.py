"""``sailrl filter`` with real Ray and real vLLM: killed in the middle, it samples the rest and nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import DEADLINE_S, ROOT, end, log_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

PROBLEMS = 200
COIN = """
from sailrl.types import Score

class Coin:
    def __call__(self, response, problem):
        return Score(float(len(response) % 2 == 0), reason="length")
"""
"""An untrained model is right about half of the time."""


def _config(folder: Path, count: int) -> Path:
    (folder.parent / "coin.py").write_text(COIN)
    # Problems that all differ: the same question asked twice would be sampled once.
    problems = [{"id": f"p{n}", "prompt": f"{10 + n // 90}+{10 + n % 90}=?", "answer": ""} for n in range(count)]
    source = folder.parent / "problems.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in problems))
    config: dict[str, Any] = {
        "kind": "filter",
        "run": {"dir": str(folder)},
        "model": {
            "build": {"use": "sailrl.demo.tiny_text:build", "args": {"hidden_size": 64, "layers": 2}},
            "dtype": "float32",
        },
        "data": {
            "problems": {"path": str(source)},
            "instruction": "",
            "max_prompt_tokens": 64,
        },
        "rewards": {
            "parts": {"coin": {"use": f"{folder.parent / 'coin.py'}:Coin", "weight": 1.0}},
            "deadline_s": 60.0,
        },
        "rollout": {"max_response_tokens": 48, "engine": {"max_concurrent": 16, "kv_cache_gib": 1.0}},
    }
    path = folder.parent / "filter.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


def _start(folder: Path, config: Path) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("sailrl")), "filter", str(config)]
    with log_of(folder).open("w") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )


def _sampled(folder: Path) -> list[str]:
    """Keys in the order in which they were sampled, whole lines only."""
    files = list((folder / "samples").glob("*.jsonl"))
    text = files[0].read_text() if files else ""
    return [json.loads(line)["key"] for line in text[: text.rfind("\n") + 1].splitlines()]


def test_a_killed_filter_samples_what_is_missing_and_nothing_twice(
    tmp_path: Path, stopping: list[subprocess.Popen[str]]
) -> None:
    folder = tmp_path / "run"
    config = _config(folder, PROBLEMS)
    killed = _start(folder, config)
    stopping.append(killed)

    def reached() -> bool:
        assert killed.poll() is None, log_of(folder).read_text()
        return len(_sampled(folder)) >= 30

    wait_until("30 sampled problems", reached, timeout_s=DEADLINE_S)
    end(killed)
    before = _sampled(folder)
    assert 30 <= len(before) < PROBLEMS
    assert not (folder / "kept.jsonl").exists()

    again = _start(folder, config)
    stopping.append(again)
    assert again.wait(timeout=DEADLINE_S) == 0, log_of(folder).read_text()
    assert f"{len(before)} of {PROBLEMS} problems have their samples already" in log_of(folder).read_text()
    after = _sampled(folder)
    assert after[: len(before)] == before
    assert set(Counter(after).values()) == {1}
    assert len(after) == PROBLEMS

    rows = {name: [json.loads(line) for line in (folder / f"{name}.jsonl").open()] for name in ("kept", "scored")}
    assert len(rows["scored"]) == 4 * PROBLEMS
    right = Counter(row["id"] for row in rows["scored"] if row["scores"]["coin"]["value"] == 1.0)
    assert {row["id"] for row in rows["kept"]} == {name for name, count in right.items() if count < 4}
    evidence = json.loads((folder / "evidence.jsonl").open().readline())
    assert evidence["model"]["hash"]
    assert evidence["sampling"]["temperature"] == 1.0
    assert evidence["rewards"]
