"""Runs a supervised stage in its folder; the result is a model that RL can start from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from sailrl.config.sft import SftConfig
from sailrl.data.batch import Sample
from sailrl.data.images import FOLDER, ImageStore
from sailrl.data.processor import Processor, load_processor
from sailrl.data.template import Template
from sailrl.errors import CheckpointError
from sailrl.launch.fingerprint import digest
from sailrl.launch.model_folder import model_folder
from sailrl.launch.run_folder import list_left_out, write_whole
from sailrl.launch.starts import UNTYPED, Continuation, Start, settings_identity
from sailrl.learner.model import Policy
from sailrl.report.progress import Progress, open_progress
from sailrl.report.summary import print_summary
from sailrl.sft.data import Imitations, ImitationSamples, load_imitations, prepare_samples
from sailrl.sft.trainer import STEPS, Logging, last_checkpoint, supervised_policy, train_sft

MODEL, ADAPTER, START = "model", "adapter", "start"
"""In the run folder: the result, its adapter if one was trained, and the model it began with if that was built."""
SETTINGS = ("model.build", "model.lora", "model.dtype", "run.seed", "training.rows_per_step")
FIXED = ("model.content", "model.build", "model.lora", "run.seed", "training.rows_per_step", "data.train.content")
"""Keys that can never change: the weights of a checkpoint, and the rows that it skips because they were learned."""


def start_sft(config: SftConfig, folder: Path, start: Start = UNTYPED) -> None:
    """Runs or resumes a supervised stage in ``folder``; a finished one only prints its result.

    Raises:
        CheckpointError: the last checkpoint is damaged, or belongs to another experiment.
    """
    if (folder / MODEL).is_dir():
        return _say_finished(config, folder, start)
    disable_progress_bar()
    store, training = ImageStore(folder / FOLDER), config.training
    last = last_checkpoint(folder)
    settings = start.recorded(config)
    saved = {} if last is None else STEPS.read(last)["identity"]
    run = Continuation(start, config, folder, last, saved, FIXED)
    if last is not None:  # before anything is read or built for another experiment
        STEPS.verify(last)
        run.compare(settings_identity(SETTINGS, settings, config.model, folder))
    with open_progress(folder.name, training.steps or 0, unit="step") as progress:
        progress.stage("reading the rows")
        rows = load_imitations(config.data, store=store)  # a bad row costs seconds: before any model is loaded
        model = model_folder(config.model, folder / START, progress, resumed=last is not None)
        processor = load_processor(config.model, config.data, model, trained=True)
        if processor.note:
            progress.message(processor.note)
        progress.stage(f"turning {len(rows.rows):,} rows into tokens")
        template = Template(processor, store, config.data)
        prepared = prepare_samples(rows.rows, template, processor, config.data)
        if config.data.instruction:
            progress.message(template.instruction_note(rows.rows[0].problem))
        _say_what_was_left_out(rows, prepared, folder, progress)
        identity = settings_identity(SETTINGS, settings, config.model, folder)
        identity["data.train.content"] = _rows(prepared.samples)
        run.compare(identity)
        run.say_changes(progress.message)
        steps = training.steps or training.epochs * math.ceil(len(prepared.samples) / training.rows_per_step)
        progress.expect(steps)
        progress.stage("loading the model")
        policy = supervised_policy(
            model, config.model, processor, store, activation_checkpointing=training.activation_checkpointing
        )
        if policy.note:
            progress.message(policy.note)
        run.begins(step=STEPS.number(last) if last else 0)
        train_sft(
            policy,
            prepared.samples,
            training,
            tokenizer=processor.tokenizer,
            scratch=folder,
            seed=config.run.seed,
            logging=Logging(folder, config.checkpoint, progress, identity, config.run.trackers, settings),
        )
        progress.stage("writing the model")
        if policy.has_adapter:
            policy.save_adapter(folder / ADAPTER)
        write_whole(folder / MODEL, lambda out: _write(policy, processor, out))
    print_summary(folder)
    print(f"model              {folder / MODEL}")


def _say_finished(config: SftConfig, folder: Path, start: Start) -> None:
    """Raises CheckpointError when another model or other data are asked for than the stage was finished with."""
    changes = start.changes(config, folder)
    lines = "".join(f"\n  {key}: {change}" for key, change in changes.items())
    if any(key.startswith(("model.", "data.")) for key in changes):
        raise CheckpointError(f"{folder} is finished with other settings:{lines}\nStart again with another run.dir.")
    unused = f"\nnot used, since nothing is trained:{lines}" if changes else ""
    print(f"{folder} is finished: {folder / MODEL}. Start again with another run.dir.{unused}")


def _rows(samples: Sequence[Sample]) -> str:
    contents = [[s.prompt_ids.tolist(), s.response_ids.tolist(), s.images] for s in samples]
    return f"{len(samples):,} rows, {digest(contents)}"


def _write(policy: Policy, processor: Processor, out: Path) -> None:
    policy.save(out)
    processor.save(out)


def _say_what_was_left_out(rows: Imitations, prepared: ImitationSamples, folder: Path, progress: Progress) -> None:
    for note in rows.notes:
        progress.message(note)
    list_left_out(folder, [*rows.bad_rows, *prepared.unusable], progress.message)
    for step, reasons in rows.dropped.items():
        progress.message(f"{step}: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()))
    if prepared.too_long:
        progress.message(f"left out {prepared.too_long:,} rows that are too long")
