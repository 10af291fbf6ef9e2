"""Supervised fine-tuning on TRL's SFTTrainer: the warm start of the demos."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sailrl.config.schema import WarmStartConfig
from sailrl.types import Prompt


def run_sft(
    model: str, out: str, prompts: Sequence[Prompt], responses: Sequence[str], config: WarmStartConfig, seed: int
) -> float:
    """Trains ``model`` on ``prompts`` with their ``responses`` and writes the result to ``out``; returns the last loss.

    Loss falls on response tokens only, end of turn included. The prompts are the token ids that RL will use, so both
    stages see the same text.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = []
    for prompt, response in zip(prompts, responses, strict=True):
        answer = [*tokenizer(response, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        ids = [*prompt.token_ids, *answer]
        rows.append({"input_ids": ids, "completion_mask": [0] * len(prompt.token_ids) + [1] * len(answer)})
    trainer: Any = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
        args=SFTConfig(
            output_dir=str(Path(out).with_suffix(".sft")),
            max_steps=config.steps,
            per_device_train_batch_size=config.rows_per_step,
            learning_rate=config.learning_rate,
            lr_scheduler_type="constant",
            max_grad_norm=1.0,
            max_length=None,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            seed=seed,
            data_seed=seed,
            save_strategy="no",
            logging_steps=10,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            model_init_kwargs={"dtype": "float32"},
        ),
    )
    loss = trainer.train().training_loss
    trainer.model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return float(loss)
