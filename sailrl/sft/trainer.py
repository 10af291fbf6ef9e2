"""Supervised fine-tuning on TRL's SFTTrainer, with the token ids, pixels and log-probabilities that RL uses.

TRL and transformers give the data order, optimizer, schedule, adapters and checkpoints. The loss is ours: the learner's
own policy computes it, so that it falls on response tokens only, is divided by the count of the whole step, and does
not depend on how a step is split into micro-batches.
"""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from sailrl.algos.nll import nll_loss
from sailrl.config.schema import ModelConfig
from sailrl.config.sft import SftCheckpoints, SftTraining
from sailrl.data.batch import Sample, collate
from sailrl.data.images import ImageStore
from sailrl.data.pack import micro_batches
from sailrl.data.processor import Processor
from sailrl.errors import CheckpointError, LearnerError
from sailrl.launch.sealed import CHECKPOINTS, Sealed
from sailrl.learner.model import Policy
from sailrl.learner.vision import Vision
from sailrl.report.metrics import SFT_KEYS, MetricsLog
from sailrl.report.progress import Progress
from sailrl.report.timing import Pace, Stopwatch
from sailrl.sft.lr_search import SearchRate

STEPS = Sealed("checkpoint-", "sailrl.json")
"""A folder without its seal was cut off while it was written."""
PACE_STEPS = 16
"""Steps over which the speed in the metrics is measured."""


@dataclass(frozen=True, slots=True)
class Logging:
    """Where a stage is saved and followed; a warm start has none."""

    folder: Path
    checkpoints: SftCheckpoints
    progress: Progress
    identity: Mapping[str, Any]
    """The identity of the experiment."""
    trackers: tuple[str, ...]
    settings: Mapping[str, Any]


def supervised_policy(
    path: str, model: ModelConfig, processor: Processor, store: ImageStore, *, activation_checkpointing: bool = False
) -> Policy:
    """The model in ``path`` as the learner holds it, on this machine's accelerator if there is one."""
    policy = Policy(
        path,
        vision=None if processor.image_id is None else Vision(processor, store),
        dtype=model.dtype,
        frozen=model.freeze,
        adapter=model.lora,
        trust_remote_code=model.trust_remote_code,
        activation_checkpointing=activation_checkpointing,
    )
    return policy.to("cuda" if torch.cuda.is_available() else "cpu")


def train_sft(
    policy: Policy,
    samples: Sequence[Sample],
    training: SftTraining,
    *,
    tokenizer: Any,
    scratch: Path,
    seed: int,
    logging: Logging | None = None,
) -> None:
    """Trains the policy on ``samples``, or goes on from the last checkpoint in ``logging.folder``.

    Args:
        scratch: a folder for the trainer's own files, where there is no run folder.

    Raises:
        LearnerError: a loss is not finite; nothing was learned from that step.
        CheckpointError: the last checkpoint cannot be read.
    """
    disable_progress_bar()
    last = None if logging is None else last_checkpoint(logging.folder)
    trainer = SupervisedTrainer(policy, samples, training, tokenizer, scratch, seed, logging)
    follow = None if logging is None else _Follow(trainer, logging, last)
    if training.lr_search is not None:
        trainer.add_callback(SearchRate(trainer, training.lr_search, last))
    if follow is not None:
        trainer.add_callback(follow)  # last, since it seals the checkpoint
    try:
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    except (OSError, ValueError, RuntimeError) as error:
        if last is None or trainer.state.global_step > STEPS.number(last):
            raise
        raise CheckpointError(
            f"{last} cannot be resumed: {type(error).__name__}: {error}. Remove it to fall back on an older one, or "
            "start again with another run.dir."
        ) from error
    finally:
        if follow is not None:
            follow.metrics.close()
    trainer.accelerator.free_memory()
    del trainer
    gc.collect()  # the trainer has reference cycles; without this its optimizer would stay in GPU memory


class SupervisedTrainer(SFTTrainer):
    """The batches of the data loader are whole steps, as row numbers; ``training_step`` splits them by tokens."""

    def __init__(
        self,
        policy: Policy,
        samples: Sequence[Sample],
        training: SftTraining,
        tokenizer: Any,
        scratch: Path,
        seed: int,
        logging: Logging | None = None,
    ) -> None:
        self._policy, self._samples, self._training = policy, samples, training
        self.measured: dict[str, float] = {}
        """Of the last step: ``nll`` per token in nats, and ``tokens`` with loss."""
        args = TrlConfig(
            output_dir=str(scratch if logging is None else logging.folder / CHECKPOINTS),
            max_steps=training.steps or -1,
            num_train_epochs=training.epochs,
            per_device_train_batch_size=training.rows_per_step,
            learning_rate=training.learning_rate,
            lr_scheduler_type="constant_with_warmup" if training.schedule == "constant" else "cosine",
            warmup_steps=training.warmup_steps,
            adam_beta1=training.betas[0],
            adam_beta2=training.betas[1],
            weight_decay=training.weight_decay,
            max_grad_norm=training.grad_clip,
            max_length=None,
            gradient_checkpointing=False,  # the policy does it
            bf16=False,  # the policy casts; master weights stay float32
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
            data_seed=seed,
            save_strategy="no" if logging is None else "steps",
            save_steps=500 if logging is None else logging.checkpoints.every_steps,
            logging_strategy="no" if logging is None else "steps",
            logging_steps=1,
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        args._n_gpu = min(1, args.n_gpu)  # one process trains on one GPU, however many there are
        super().__init__(
            model=policy.model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_dict({"row": list(range(len(samples)))}),
            data_collator=lambda rows: {"rows": torch.tensor([row["row"] for row in rows])},
            args=args,
        )
        self.remove_callback(PrinterCallback)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Writes none: checkpoints are for resuming, not for publishing."""

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None) -> Any:
        """Forward and backward over the rows of one step; the loss is divided by the count of the whole step.

        Raises:
            LearnerError: the loss is not finite.
        """
        model.train()
        rows = [self._samples[row] for row in inputs["rows"].tolist()]
        tokens = sum(len(row.response_ids) for row in rows)
        denominator = float(tokens if self._training.loss_reduction == "token_mean" else len(rows))
        loss, total = torch.zeros(()), 0.0
        budget = self._training.max_tokens_per_microbatch
        for micro in micro_batches(rows, budget) if self._policy.packs else [[i] for i in range(len(rows))]:
            batch = collate([rows[i] for i in micro]).to(self._policy.device)
            logp, _ = self._policy(batch)
            part, sums = nll_loss(logp, batch.mask, denominator=denominator)
            self.accelerator.backward(part)
            loss, total = loss + part.detach().cpu(), total + float(sums["nll/sum"])
        if not math.isfinite(total):
            raise LearnerError(
                f"the loss of step {self.state.global_step + 1} is {total}; nothing was learned from it. "
                "Lower training.learning_rate, and run the same command to go on from the last checkpoint."
            )
        self.measured = {"nll": total / tokens, "tokens": float(tokens)}
        return loss


class _Follow(TrainerCallback):
    """Writes metrics, shows progress, and marks a checkpoint as whole."""

    def __init__(self, trainer: SupervisedTrainer, logging: Logging, last: Path | None) -> None:
        self._trainer, self._logging = trainer, logging
        saved = {} if last is None else STEPS.read(last)
        self.metrics = MetricsLog(
            logging.folder,
            resume_at=saved.get("metrics"),
            required=SFT_KEYS,
            trackers=logging.trackers,
            settings=logging.settings,
            say=logging.progress.message,
        )
        self._watch, self._pace = Stopwatch(), Pace(PACE_STEPS)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._watch.lap()  # the time before the first step does not count

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs is None or "loss" not in logs:
            return
        values = {key: float(logs[key]) for key in ("loss", "learning_rate", "grad_norm")} | self._trainer.measured
        spent = self._watch.lap()
        values |= {"time/step_s": spent["time/step_s"], **self._pace.after(values["tokens"], spent)}
        self.metrics.log(state.global_step, values)
        self._logging.progress.update(state.global_step, values)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = self._logging.folder / CHECKPOINTS / f"checkpoint-{state.global_step}"
        STEPS.write(folder, {"metrics": self.metrics.position(), "identity": dict(self._logging.identity)})
        for old in STEPS.folders(self._logging.folder)[: -self._logging.checkpoints.keep]:
            shutil.rmtree(old, ignore_errors=True)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those that were cut off while they were written are removed."""
    whole = []
    for found in STEPS.folders(folder):
        if (found / STEPS.seal).is_file():
            whole.append(found)
        else:
            shutil.rmtree(found)
    return whole[-1] if whole else None
