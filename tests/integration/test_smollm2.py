"""A real pretrained model through everything: SmolLM2-135M-Instruct learns small sums on two cores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sailrl.demo import smollm2
from sailrl.errors import DataError
from tests.integration.conftest import (
    DEADLINE_S,
    ROOT,
    Finished,
    end,
    log_of,
    metrics,
    repeatable_metrics,
    run,
    start,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

ROWS = "sailrl.demo.smollm2:rows"
BOXED = {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}
GAIN = 0.15
"""What accuracy gains at least by learning, and the control must stay below. Four updates gained 0.50 when this was
written; the difference between two samples of 128 has a standard error of 0.06."""
COIN = """
from zlib import crc32

from sailrl.types import Score


class Coin:
    def __call__(self, response, problem):
        return Score(float(crc32((problem.id + response).encode()) % 2))
"""
"""A reward that says nothing about the answer."""


@pytest.fixture(scope="session")
def base() -> Path:
    """The pretrained model, downloaded and converted once."""
    try:
        return smollm2.cached()
    except DataError as error:
        pytest.skip(f"the real model cannot be had: {error}")


@pytest.fixture(scope="session")
def config(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four updates on 32 responses each; all groups are kept, so that every update has as many."""
    return written(
        tmp_path_factory.mktemp("config") / "smollm2.yaml",
        kind="rlvr",
        run={"deterministic": True},
        model={"path": str(base), "dtype": "float32"},
        data={
            "train": {"generate": {"use": ROWS, "args": {"count": 256, "seed": 1}}},
            "eval": {"generate": {"use": ROWS, "args": {"count": 64, "seed": 2, "split": "eval"}}},
            "instruction": "",
            "max_prompt_tokens": 128,
        },
        rewards={"parts": BOXED, "deadline_s": 60.0},
        batch={"group_size": 8, "rollouts_per_episode": 32, "rollouts_per_update": 32, "episodes": 4}
        | {"passes_per_episode": 1},
        rollout=ROLLOUT | {"dynamic_sampling": {"enabled": False}},
        learner={"learning_rate": 3e-5, "max_tokens_per_microbatch": 2048},
        checkpoint={"every_episodes": 2, "keep": 1},
        eval={"every_episodes": 4, "temperature": 1.0, "samples": 2},
    )


ROLLOUT: dict[str, Any] = {
    "max_response_tokens": 24,
    "engine": {"max_concurrent": 64, "kv_cache_gib": 1.0, "enforce_eager": True},
}
ONE_SMALL_UPDATE = (
    "batch.episodes=1",
    "batch.group_size=4",
    "batch.rollouts_per_episode=4",
    "batch.rollouts_per_update=4",
)


def written(path: Path, **sections: Any) -> Path:
    path.write_text(json.dumps(sections))  # JSON is YAML
    return path


def accuracies(folder: Path) -> list[float]:
    return [line["eval/accuracy"] for line in metrics(folder) if "eval/accuracy" in line]


def updates(folder: Path) -> list[dict[str, Any]]:
    return [line for line in metrics(folder) if "grad_norm" in line]


@pytest.fixture(scope="session")
def learned(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    done = run(tmp_path_factory.mktemp("smollm2") / "whole", config=config)
    assert done.code == 0, done.output
    return done


def command(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("sailrl")), name, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- learning ------------------------------------------------------------------------------------------------------


def test_the_model_learns_sums_that_it_has_not_seen(learned: Finished) -> None:
    before, after = accuracies(learned.folder)
    assert after > before + GAIN


def test_a_reward_that_knows_nothing_teaches_nothing(config: Path, tmp_path: Path) -> None:
    """The negative control: the same updates, on a coin's word."""
    (tmp_path / "coin.py").write_text(COIN)
    coin = f"{{use: '{tmp_path / 'coin.py'}:Coin', weight: 1.0}}"
    asked = (f"rewards.parts={{coin: {coin}, boxed: {{use: 'rewards.boxed:BoxedAnswer'}}}}", "rewards.accuracy=boxed")
    done = run(tmp_path / "coin", *asked, "checkpoint.every_episodes=9", config=config)
    assert done.code == 0, done.output
    before, after = accuracies(done.folder)
    assert after < before + GAIN
    assert all(line["grad_norm"] > 0 for line in updates(done.folder))  # it did learn: the coin


# --- engine and learner --------------------------------------------------------------------------------------------


def test_in_float32_engine_and_learner_agree_to_rounding(learned: Finished) -> None:
    lines = updates(learned.folder)
    assert len(lines) == 4
    assert all(line["sync/max_abs_dlogp"] < 2e-4 for line in lines)
    assert all(line["mismatch/mean_abs_dlogp"] < 1e-4 for line in lines)


def test_an_adapter_is_published_merged(config: Path, tmp_path: Path) -> None:
    asked = ("model.lora={rank: 8}", "learner.learning_rate=1e-3", "batch.episodes=2", "eval.every_episodes=2")
    done = run(tmp_path / "lora", *asked, config=config)
    assert done.code == 0, done.output
    first, second = updates(done.folder)
    assert first["sync/max_abs_dlogp"] < 2e-4  # after an update that moved the adapter
    assert second["mismatch/mean_abs_dlogp"] < 1e-4
    assert (done.folder / "checkpoints" / "episode-000002" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_needs_no_setting(config: Path, tmp_path: Path, dtype: str) -> None:
    """Four responses: torch multiplies float16 on a CPU 25 times slower than float32."""
    done = run(tmp_path / dtype, f"model.dtype={dtype}", *ONE_SMALL_UPDATE, "data.eval.limit=8", config=config)
    assert done.code == 0, done.output
    (line,) = updates(done.folder)
    # More than rounding in float32, far less than another model: that is several nats.
    assert 2e-4 < line["sync/mean_abs_dlogp"] < 0.2
    assert 2e-4 < line["mismatch/mean_abs_dlogp"] < 0.2


# --- a run that is killed ------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_bit_for_bit(
    learned: Finished, config: Path, tmp_path: Path, stopping: list[subprocess.Popen[str]]
) -> None:
    folder = tmp_path / "killed"
    process = start(folder, config=config)
    stopping.append(process)

    def reached() -> bool:
        assert process.poll() is None, log_of(folder).read_text()
        return len(updates(folder)) >= 3

    wait_until("the third update", reached, timeout_s=DEADLINE_S)
    end(process)
    assert [path.name for path in (folder / "checkpoints").glob("episode-*")] == ["episode-000002"]
    resumed = run(folder, config=config)
    assert resumed.code == 0, resumed.output
    assert "2 of 4 updates are done" in resumed.output
    assert repeatable_metrics(folder) == repeatable_metrics(learned.folder)
    last = Path("checkpoints") / "episode-000004" / "model" / "model.safetensors"
    for name in ("rollouts.jsonl", last):
        assert (folder / name).read_bytes() == (learned.folder / name).read_bytes(), name


# --- what stands around RL -----------------------------------------------------------------------------------------


def test_a_supervised_stage_gives_rl_a_better_start(
    learned: Finished, config: Path, base: Path, tmp_path: Path
) -> None:
    stage = written(
        tmp_path / "sft.yaml",
        kind="sft",
        model={"path": str(base), "dtype": "bfloat16"},  # five times as fast on a CPU; what RL starts from is float32
        data={
            "train": {"generate": {"use": ROWS, "args": {"count": 200, "seed": 3}}},
            "instruction": "",
            "max_tokens": 256,
        },
        training={"rows_per_step": 20, "epochs": 1, "learning_rate": 3e-5, "max_tokens_per_microbatch": 2048},
    )
    supervised = run(tmp_path / "sft", config=stage)
    assert supervised.code == 0, supervised.output
    lines = metrics(supervised.folder)
    assert lines[-1]["nll"] < lines[0]["nll"]
    model = supervised.folder / "model"
    done = run(tmp_path / "rl", f"model.path={model}", *ONE_SMALL_UPDATE, config=config)
    assert done.code == 0, done.output
    assert accuracies(done.folder)[0] > accuracies(learned.folder)[0] + GAIN


def test_filter_keeps_what_is_sometimes_solved(base: Path, tmp_path: Path) -> None:
    config = written(
        tmp_path / "filter.yaml",
        kind="filter",
        run={"dir": str(tmp_path / "filter")},
        model={"path": str(base), "dtype": "float32"},
        data={
            "problems": {"generate": {"use": ROWS, "args": {"count": 24, "seed": 4}}},
            "instruction": "",
            "max_prompt_tokens": 128,
        },
        rewards={"parts": BOXED, "deadline_s": 60.0},
        rollout=ROLLOUT,
        samples=4,
    )
    command("filter", str(config))
    rows = {
        name: [json.loads(line) for line in (tmp_path / "filter" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("kept", "scored")
    }
    right: dict[str, list[float]] = {}
    for row in rows["scored"]:
        right.setdefault(row["id"], []).append(row["scores"]["boxed"]["value"])
    assert {row["id"] for row in rows["kept"]} == {name for name, values in right.items() if 0 < sum(values) < 4}
    assert 0 < len(rows["kept"]) < len(right)


def test_eval_shows_before_and_after_side_by_side(learned: Finished, base: Path, tmp_path: Path) -> None:
    after = learned.folder / "checkpoints" / "episode-000004" / "model"
    config = written(
        tmp_path / "eval.yaml",
        kind="eval",
        run={"dir": str(tmp_path / "eval")},
        models={name: {"path": str(path), "dtype": "float32"} for name, path in (("before", base), ("after", after))},
        data={
            "problems": {"generate": {"use": ROWS, "args": {"count": 64, "seed": 2, "split": "eval"}}},
            "instruction": "",
            "max_prompt_tokens": 128,
        },
        rewards={"parts": BOXED, "deadline_s": 60.0},
        rollout=ROLLOUT,
        samples=2,
        temperature=1.0,
    )
    table = command("eval", str(config))
    assert "cut off" in table
    lines = [json.loads(line) for line in (tmp_path / "eval" / "evals.jsonl").read_text().splitlines()]
    accuracy = {line["model"]: line["accuracy"] for line in lines}
    assert accuracy["after"] > accuracy["before"] + GAIN


def test_its_rollouts_score_as_they_did_in_the_run(learned: Finished, tmp_path: Path) -> None:
    rollouts = learned.folder / "rollouts.jsonl"
    command("score", str(rollouts), "--out", str(tmp_path / "scored.jsonl"), "--reward", "boxed=1")
    before, after = (
        [json.loads(line)["scores"]["boxed"]["value"] for line in file.read_text().splitlines()]
        for file in (rollouts, tmp_path / "scored.jsonl")
    )
    assert len(before) == 128
    assert before == after
    assert 0 < sum(before) < 128
