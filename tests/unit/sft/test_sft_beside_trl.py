"""Supervised steps beside TRL's ``SFTTrainer`` on the same token ids: losses, gradient norms, rates and weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from sailrl.config.learner import RanksConfig
from sailrl.config.schema import ModelConfig, PromptConfig
from sailrl.config.sft import SftTraining
from sailrl.learner.build import LearnerSpec
from sailrl.learner.supervised import SupervisedObjective
from sailrl.sft.loop import supervised_steps
from tests.fakes.tiny_learner import make_samples

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about the version of vLLM, which plays no part here
    trl = pytest.importorskip("trl", exc_type=ImportError)

pytestmark = pytest.mark.slow  # importing TRL alone takes ten seconds

STEPS, ROWS = 4, 6
SAMPLES = make_samples(ROWS)


def _theirs(model: Path, out: Path) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    rows = [
        {
            "input_ids": [*s.prompt_ids.tolist(), *s.response_ids.tolist()],
            "completion_mask": [0] * len(s.prompt_ids) + [1] * len(s.response_ids),
        }
        for s in SAMPLES
    ]
    args = trl.SFTConfig(
        output_dir=str(out),
        max_steps=STEPS,
        per_device_train_batch_size=ROWS,
        learning_rate=1e-2,
        lr_scheduler_type="cosine",
        warmup_steps=1,
        max_grad_norm=1.0,
        max_length=None,
        completion_only_loss=True,
        logging_steps=1,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=Dataset.from_list(rows),
        args=args,
    )
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return lines, {name: value.detach() for name, value in trainer.model.named_parameters()}


def _ours(model: Path, reduction: Any) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    training = SftTraining(rows_per_step=ROWS, steps=STEPS, learning_rate=1e-2, warmup_steps=1)
    learner = LearnerSpec(
        ModelConfig(path=str(model), dtype="float32"),
        PromptConfig(),
        training.learner(RanksConfig()),
        SupervisedObjective(reduction),
        weights=str(model),
        images=str(model / "images"),
        seed=0,
    ).build()
    lines = [line for _, line in supervised_steps(learner, SAMPLES, training, seed=0)]
    return lines, {name: value.detach() for name, value in learner.policy.model.named_parameters()}


def test_steps_equal_those_of_trl(tiny_folder: Path, tmp_path: Path) -> None:
    theirs, their_weights = _theirs(tiny_folder, tmp_path)
    mine, weights = _ours(tiny_folder, "token_mean")
    assert len(mine) == len(theirs) == STEPS
    for own, other in zip(mine, theirs, strict=True):
        # TRL rounds what it logs to four or more digits.
        for key in ("loss", "grad_norm", "learning_rate"):
            assert own[key] == pytest.approx(float(other[key]), rel=1e-4, abs=1e-9), key
    assert all(torch.allclose(weights[name], their_weights[name], atol=1e-4) for name in their_weights)
    # Negative control: the mean over samples is another loss.
    assert _ours(tiny_folder, "sample_sum")[0][0]["loss"] != pytest.approx(float(theirs[0]["loss"]), rel=0.1)
