"""Supervised fine-tuning on TRL's SFTTrainer, on the same token ids and pixels that RL uses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sailrl.config.schema import WarmStartConfig
from sailrl.data.alignment import check_placeholders
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.errors import DataError
from sailrl.types import Prompt

IGNORED = -100  # transformers' label for tokens without loss


def run_sft(
    model: str,
    out: Path,
    rows: Sequence[tuple[Prompt, str]],
    processor: Processor,
    images: ImageStore,
    config: WarmStartConfig,
    seed: int,
) -> None:
    """Trains ``model`` on ``(prompt, response)`` rows and writes the result to ``out``.

    Loss falls on response tokens only, end of turn included.
    """
    from datasets import Dataset
    from transformers.utils.logging import disable_progress_bar
    from trl import SFTConfig, SFTTrainer

    disable_progress_bar()
    trainer: Any = SFTTrainer(
        model=model,
        processing_class=processor.tokenizer,
        train_dataset=Dataset.from_list([_example(prompt, response, processor) for prompt, response in rows]),
        data_collator=partial(_collate, processor=processor, images=images),
        args=SFTConfig(
            output_dir=str(out / "trainer"),
            max_steps=config.steps,
            per_device_train_batch_size=config.rows_per_step,
            learning_rate=config.learning_rate,
            lr_scheduler_type="constant",
            max_length=None,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
            data_seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            model_init_kwargs={"dtype": "float32"},
        ),
    )
    trainer.train()
    trainer.model.save_pretrained(out)
    processor.save(out)


def _example(prompt: Prompt, response: str, processor: Processor) -> dict[str, Any]:
    answer = [*processor.encode(response), processor.tokenizer.eos_token_id]
    if processor.image_id is not None:
        fault = check_placeholders([], answer, processor.image_id, [])
        if fault is not None:
            raise DataError(f"problem {prompt.problem.id}: its response cannot be imitated: {fault}")
    return {
        "input_ids": [*prompt.token_ids, *answer],
        "prompt_tokens": len(prompt.token_ids),
        "image_hashes": list(prompt.images),
    }


def _collate(examples: list[dict[str, Any]], *, processor: Processor, images: ImageStore) -> dict[str, torch.Tensor]:
    ids = [torch.tensor(example["input_ids"]) for example in examples]
    labels = [row.clone() for row in ids]
    for row, example in zip(labels, examples, strict=True):
        row[: example["prompt_tokens"]] = IGNORED

    def pad(rows: list[torch.Tensor], value: int) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

    batch = {
        "input_ids": pad(ids, processor.tokenizer.pad_token_id),
        "attention_mask": pad([torch.ones_like(row) for row in ids], 0),
        "labels": pad(labels, IGNORED),
    }
    if processor.image_id is not None:
        batch["mm_token_type_ids"] = processor.image_places(batch["input_ids"])
    digests = [digest for example in examples for digest in example["image_hashes"]]
    if digests:
        pixels, grids = zip(*processor.pixels([images.image(digest) for digest in digests]), strict=True)
        batch["pixel_values"], batch["image_grid_thw"] = torch.cat(pixels), torch.stack(grids)
    return batch
