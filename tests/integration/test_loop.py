"""The tiny demo with real Ray and real vLLM, shortened: what it leaves behind is what the contract promises."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from sailrl.report.metrics import EVAL_KEYS, RLVR_KEYS
from tests.integration.conftest import SHORT, Finished, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_every_update_has_every_number_of_the_contract(tiny_run: Finished) -> None:
    updates = [line for line in tiny_run.metrics() if "reward/mean" in line]
    assert [line["step"] for line in updates] == list(range(1, 17))  # 4 episodes x 2 updates x 2 passes
    for line in updates:
        assert not {*RLVR_KEYS, "reward/boxed", "reward/think_format"} - line.keys()
        assert line["groups/kept"] == 8  # 64 rollouts in groups of 8
        assert line["time/step_s"] > 0
    # Without dynamic sampling an update whose four groups were each rewarded alike has no gradient; few are.
    assert sum(line["grad_norm"] > 0 for line in updates) >= 12


def test_engine_and_learner_agree_before_anything_was_learned(tiny_run: Finished) -> None:
    """Float32 on both sides: anything above rounding is a bug in one of them."""
    first = next(line for line in tiny_run.metrics() if "mismatch/max_abs_dlogp" in line)
    assert first["step"] == 1
    assert first["mismatch/max_abs_dlogp"] < 1e-4
    assert first["mismatch/k3"] < 1e-8


def test_engine_and_learner_agree_after_every_publish(tiny_run: Finished) -> None:
    """The first update of each episode is on the responses of freshly published weights."""
    updates = [line for line in tiny_run.metrics() if "mismatch/max_abs_dlogp" in line]
    assert max(line["mismatch/max_abs_dlogp"] for line in updates[0::4]) < 1e-4
    published = [line["sync/max_abs_dlogp"] for line in updates if "sync/max_abs_dlogp" in line]
    assert published
    assert max(published) < 1e-4


def test_held_out_problems_are_tried_before_the_first_update_and_after_the_last(tiny_run: Finished) -> None:
    evaluations = [line for line in tiny_run.metrics() if "eval/accuracy" in line]
    assert [line["step"] for line in evaluations] == [0, 8, 16]
    assert all(not set(EVAL_KEYS) - line.keys() for line in evaluations)


def test_the_run_folder_is_complete(tiny_run: Finished) -> None:
    names = {path.name for path in tiny_run.folder.iterdir()}
    assert {"resolved.yaml", "metrics.jsonl", "rollouts.jsonl", "checkpoints", "tensorboard", "curve.png"} <= names
    assert not [name for name in names if name.startswith(".writing")]
    checkpoints = sorted(path.name for path in (tiny_run.folder / "checkpoints").iterdir())
    assert checkpoints == ["episode-000002", "episode-000004"]
    assert any((tiny_run.folder / "tensorboard").iterdir())


def test_every_rollout_is_written_down_with_its_scores(tiny_run: Finished) -> None:
    rows = [json.loads(line) for line in (tiny_run.folder / "rollouts.jsonl").read_text().splitlines()]
    assert len(rows) == 4 * 64
    assert all(set(row["scores"]) == {"boxed", "think_format"} for row in rows)
    assert {row["version"] for row in rows} == {0, 1, 2, 3}
    assert all(row["staleness"] == 0 for row in rows)


def test_the_last_checkpoint_is_a_model_that_transformers_runs(tiny_run: Finished) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_run.folder / "checkpoints" / "episode-000004" / "model"
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    chat = [{"role": "user", "content": "12+34=?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        output = model.generate(**ids, max_new_tokens=4, do_sample=False)
    assert output.shape[1] > ids["input_ids"].shape[1]
    start = AutoModelForCausalLM.from_pretrained(tiny_run.folder / "warm_start")
    assert not torch.equal(model.lm_head.weight, start.lm_head.weight)  # it has learned something


def test_the_end_names_the_folder_and_the_climb(tiny_run: Finished) -> None:
    assert "held-out accuracy" in tiny_run.output
    assert str(tiny_run.folder) in tiny_run.output


def test_a_finished_run_that_is_started_again_says_so_and_changes_nothing(tiny_run: Finished) -> None:
    kept = ("metrics.jsonl", "rollouts.jsonl", "checkpoints/episode-000004/learner-000-00001.safetensors")
    before = [(tiny_run.folder / name).read_bytes() for name in kept]
    again = run(tiny_run.folder, *SHORT)
    assert again.code == 0, again.output
    assert "is finished: 4 episodes" in again.output
    assert [(tiny_run.folder / name).read_bytes() for name in kept] == before
