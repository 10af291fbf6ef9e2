"""From the configuration of a supervised stage and its folder to a model that RL starts from."""

from __future__ import annotations

import math
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from sailrl.config.sft import SftConfig
from sailrl.data.images import FOLDER, ImageStore
from sailrl.data.processor import Processor, load_processor
from sailrl.data.template import Template
from sailrl.launch.model_folder import model_folder
from sailrl.launch.run_folder import list_left_out, write_whole
from sailrl.learner.model import Policy
from sailrl.report.progress import Progress, open_progress
from sailrl.report.summary import print_summary
from sailrl.sft.data import Imitations, Prepared, load_imitations, prepare_samples
from sailrl.sft.trainer import Logging, supervised_policy, train_sft

MODEL, ADAPTER, START = "model", "adapter", "start"
"""In the run folder: the result, its adapter if one was trained, and the model it began with if that was built."""


def start_sft(config: SftConfig, folder: Path) -> None:
    """Runs or resumes a supervised stage in ``folder``; a finished one says so and does nothing."""
    if (folder / MODEL).is_dir():
        print(f"{folder} is finished: {folder / MODEL}. Start anew with another run.dir.")
        return
    disable_progress_bar()
    store, training = ImageStore(folder / FOLDER), config.training
    with open_progress(folder.name, training.steps or 0, unit="step") as progress:
        progress.stage("reading the rows")
        rows = load_imitations(config.data, store=store)  # a bad row costs seconds: before any model is loaded
        model = model_folder(config.model, folder / START, progress)
        processor = load_processor(config.model, config.data, model, trained=True)
        if processor.note:
            progress.message(processor.note)
        progress.stage(f"turning {len(rows.rows):,} rows into tokens")
        template = Template(processor, store, config.data)
        prepared = prepare_samples(rows.rows, template, processor, config.data)
        if config.data.instruction:
            progress.message(template.instruction_note(rows.rows[0].problem))
        _say_what_was_left_out(rows, prepared, folder, progress)
        steps = training.steps or training.epochs * math.ceil(len(prepared.samples) / training.rows_per_step)
        progress.expect(steps)
        progress.stage("loading the model")
        policy = supervised_policy(
            model, config.model, processor, store, activation_checkpointing=training.activation_checkpointing
        )
        train_sft(
            policy,
            prepared.samples,
            training,
            tokenizer=processor.tokenizer,
            scratch=folder,
            seed=config.run.seed,
            logging=Logging(folder, config.checkpoint, progress),
        )
        progress.stage("writing the model")
        if policy.has_adapter:
            policy.save_adapter(folder / ADAPTER)
        write_whole(folder / MODEL, lambda out: _write(policy, processor, out))
    print_summary(folder)
    print(f"model              {folder / MODEL}")


def _write(policy: Policy, processor: Processor, out: Path) -> None:
    policy.save(out)
    processor.save(out)


def _say_what_was_left_out(rows: Imitations, prepared: Prepared, folder: Path, progress: Progress) -> None:
    for note in rows.notes:
        progress.message(note)
    list_left_out(folder, [*rows.bad_rows, *prepared.unusable], progress.message)
    for step, reasons in rows.dropped.items():
        progress.message(f"{step}: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()))
    if prepared.too_long:
        progress.message(f"left out {prepared.too_long:,} rows that are too long")
