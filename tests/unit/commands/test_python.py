"""The commands as functions of ``sailrl``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import sailrl
from sailrl.cli import app
from sailrl.config.load import load_config
from sailrl.errors import ConfigError, DataError
from sailrl.rl import checkpoints

ROWS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "2 + 2?", "answer": "4", "response": "<think>t</think>\n\\boxed{4}"},
    {"id": "b", "prompt": "2 + 3?", "answer": "5", "response": "\\boxed{6}", "level": 3},
    {"id": "c", "prompt": "2 + 4?", "answer": "6"},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def filter_config(folder: Path) -> dict[str, Any]:
    """A filter on four scored responses: "easy" is always right, "hard" half of the time."""
    lines = [
        {
            "id": name,
            "prompt": f"{name}?",
            "answer": "1",
            "response": "1",
            "reward": reward,
            "scores": {"boxed": {"value": reward, "status": "scored", "reason": "exact"}},
        }
        for name, rewards in {"easy": (1.0,) * 4, "hard": (1.0, 0.0) * 2}.items()
        for reward in rewards
    ]
    (folder / "scored.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"kind": "filter", "run": {"dir": str(folder / "out")}}


def test_score_gives_the_rows_that_the_command_writes(folder: Path) -> None:
    done = CliRunner().invoke(app, ["score", "rows.jsonl", "--out", "out.jsonl"])
    assert done.exit_code == 0, done.output
    written = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert sailrl.score(ROWS) == sailrl.score("rows.jsonl") == written
    # 0.9 x right + 0.1 x format; wrong and without <think>; no response, no score.
    assert [row["reward"] for row in written] == [1.0, 0.0, None]
    assert "reward" not in ROWS[0]


def test_score_takes_rewards_by_name_or_a_configuration(folder: Path) -> None:
    assert [row["reward"] for row in sailrl.score(ROWS[:2], {"boxed": 0.5})] == [0.5, 0.0]
    parts = {"right": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}
    scored = sailrl.score(ROWS[:1], config={"kind": "rlvr", "rewards": {"parts": parts}})
    assert (scored[0]["reward"], list(scored[0]["scores"])) == (1.0, ["right"])
    with pytest.raises(ConfigError, match="use one of them"):
        sailrl.score(ROWS, {"boxed": 1.0}, config={"rewards": {}})
    with pytest.raises(ConfigError, match=r"^config has no section `rewards`"):
        sailrl.score(ROWS, config={"kind": "rlvr"})
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        sailrl.score("gone.jsonl")


def test_a_mapping_a_file_and_a_configuration_run_the_same_job(folder: Path) -> None:
    config = filter_config(folder)
    (folder / "filter.yaml").write_text(json.dumps(config))
    settings = {"scored": str(folder / "scored.jsonl")}
    for source in (config | settings, "filter.yaml", load_config("filter.yaml", [f"scored={settings['scored']}"])):
        result = sailrl.filter(source, scored="scored.jsonl")
        assert (result.folder, result.ended) == (folder / "out", "finished")
        kept = [json.loads(line)["id"] for line in result.outputs["kept"].read_text().splitlines()]
        assert kept == ["hard"]
    assert "run" in config  # it was not changed


def test_a_mapping_names_its_run_folder_and_its_mistakes_are_told(folder: Path) -> None:
    config = filter_config(folder)
    with pytest.raises(ConfigError, match=r"run\.dir is missing.*\{\"run\": \{\"dir\""):
        sailrl.filter({**config, "run": {}}, scored="scored.jsonl")
    with pytest.raises(ConfigError, match=r"^config: .*samplse.*Did you mean"):
        sailrl.filter({**config, "samplse": 2}, scored="scored.jsonl")
    with pytest.raises(ConfigError, match="is of kind filter, and `sailrl eval` runs kind eval"):
        sailrl.eval({**config, "scored": "scored.jsonl", "data": None})


def test_a_result_knows_its_best_and_its_last_checkpoint(tmp_path: Path) -> None:
    result = sailrl.RunResult(tmp_path, "finished", {})
    assert (result.best, result.last, result.metrics) == (None, None, [])
    for episode, step in ((1, 4), (2, 8), (3, 12)):
        state = checkpoints.RunState(episode=episode, step=step)
        checkpoints.save(tmp_path, state, lambda folder: None, keep=3)
    lines: list[dict[str, Any]] = [{"step": step, "reward/mean": 0.1} for step in (4, 8, 12)]
    lines += [{"step": step, "eval/accuracy": value} for step, value in ((0, 0.9), (4, 0.5), (8, 0.7), (12, 0.6))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Step 0 was better still, and has no checkpoint.
    assert (result.best, result.last) == tuple(tmp_path / "checkpoints" / f"episode-00000{n}" for n in (2, 3))
    assert ([line["step"] for line in result.metrics], len(result.evals)) == ([4, 8, 12], 4)


def test_scoring_from_python_loads_no_torch_and_no_ray() -> None:
    code = (
        "import sys, sailrl\n"
        "light = not {'pydantic', 'sailrl.commands'} & set(sys.modules)\n"
        f"reward = sailrl.score([{ROWS[0]!r}])[0]['reward']\n"
        "print(light, reward, sorted({'torch', 'ray', 'vllm', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(maxsplit=2), done.returncode) == (["True", "1.0", "[]\n"], 0), done.stderr


def test_an_unknown_name_of_sailrl_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        sailrl.train  # type: ignore[attr-defined]  # noqa: B018
