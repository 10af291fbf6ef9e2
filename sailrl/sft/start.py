"""Runs a supervised stage in its folder; the result is a model that RL can start from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sailrl.algos.adalrs import AdaLrs
from sailrl.config.sft import SftConfig
from sailrl.data.batch import Sample
from sailrl.data.images import FOLDER, ImageStore
from sailrl.data.processor import Processor, load_processor
from sailrl.data.template import Template
from sailrl.errors import CheckpointError, LearnerDied
from sailrl.launch.fingerprint import digest
from sailrl.launch.model_folder import model_folder
from sailrl.launch.placement import actor_options, cluster, nodes
from sailrl.launch.restarts import Restarts
from sailrl.launch.run_folder import list_left_out, write_whole
from sailrl.launch.sealed import Sealed
from sailrl.launch.starts import UNTYPED, Continuation, Start, settings_identity
from sailrl.learner.build import LearnerSpec, free_memory
from sailrl.learner.group import LearnerGroup
from sailrl.learner.learner import Learner
from sailrl.learner.supervised import SupervisedObjective
from sailrl.report.metrics import SFT_KEYS, MetricsLog
from sailrl.report.progress import Progress, open_progress
from sailrl.report.summary import print_summary
from sailrl.report.timing import Pace, Stopwatch
from sailrl.sft.data import Imitations, ImitationSamples, load_imitations, prepare_samples
from sailrl.sft.loop import count_steps, new_search, supervised_steps

STEPS = Sealed("checkpoint-", "sailrl.json")
PACE_STEPS = 16
"""Steps over which the speed in the metrics is measured."""
MODEL, ADAPTER, START = "model", "adapter", "start"
"""In the run folder: the result, its adapter if one was trained, and the model it began with if that was built."""
SETTINGS = ("model.build", "model.lora", "model.dtype", "run.seed", "training.rows_per_step")
FIXED = ("model.content", "model.build", "model.lora", "run.seed", "training.rows_per_step", "data.train.content")
"""Keys that can never change: the weights of a checkpoint, and the rows that it skips because they were learned."""


@dataclass(frozen=True, slots=True)
class StageState:
    """How far a stage is. JSON-able."""

    step: int
    """Steps done."""
    metrics: dict[str, int] = field(default_factory=dict)
    """Position in the log; what was written after the last checkpoint is cut off when the stage resumes."""
    search: dict[str, Any] | None = None
    """The search for a learning rate."""
    identity: dict[str, Any] = field(default_factory=dict)
    """The identity of the experiment."""


def start_sft(config: SftConfig, folder: Path, start: Start = UNTYPED) -> None:
    """Runs or resumes a supervised stage in ``folder``; a finished one only prints its result.

    Raises:
        CheckpointError: the last checkpoint is damaged, or belongs to another experiment.
    """
    if (folder / MODEL).is_dir():
        return _say_finished(config, folder, start)
    store, training = ImageStore(folder / FOLDER), config.training
    last = STEPS.latest(folder)
    settings = start.recorded(config)
    state = StageState(step=0) if last is None else STEPS.load(last, StageState)
    run = Continuation(start, config, folder, last, state.identity, FIXED)
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
        steps = count_steps(training, len(prepared.samples))
        progress.expect(steps, done=state.step)
        restarts = Restarts(config.run.max_restarts, progress.message)
        while last is None or STEPS.number(last) < steps:
            progress.stage("loading the model")
            state = StageState(step=0) if last is None else STEPS.load(last, StageState)
            try:
                with _opened(_spec(config, model, folder, last), config, folder) as learner:
                    run.begins(step=state.step)
                    state = replace(state, identity=identity)
                    _train(learner, prepared.samples, config, state, folder, processor, progress)
            except LearnerDied as death:
                restarts.after(death)
            last = STEPS.latest(folder)
        progress.stage("writing the model")
        for name in (ADAPTER, MODEL) if config.model.lora else (MODEL,):
            shutil.rmtree(folder / name, ignore_errors=True)
            write_whole(folder / name, partial(shutil.copytree, last / name, dirs_exist_ok=True))
    free_memory()
    print_summary(folder)
    print(f"model              {folder / MODEL}")


def _spec(config: SftConfig, model: str, folder: Path, last: Path | None) -> LearnerSpec:
    """The learner of a stage that began with ``model``, after its checkpoint ``last``."""
    return LearnerSpec(
        config.model,
        config.data,
        config.training.learner(config.learner),
        SupervisedObjective(config.training.loss_reduction),
        weights=model if last is None or config.model.lora else str(last / MODEL),  # an adapter is on its base
        images=str(folder / FOLDER),
        seed=config.run.seed,
        state=None if last is None else str(last),
    )


@contextmanager
def _opened(spec: LearnerSpec, config: SftConfig, folder: Path) -> Iterator[Learner | LearnerGroup]:
    """The learner: in this process, or in Ray's where it has several ranks."""
    if not spec.learner.distributed:
        yield spec.build()
        return
    with cluster(folder):
        learners = LearnerGroup(spec, actor_options=actor_options(config, nodes()).ranks)
        try:
            yield learners
        finally:
            learners.stop()


def _train(
    learner: Learner | LearnerGroup,
    samples: Sequence[Sample],
    config: SftConfig,
    state: StageState,
    folder: Path,
    processor: Processor,
    progress: Progress,
) -> None:
    """The steps that are left, each with its line of metrics, and the checkpoints."""
    if note := learner.note():
        progress.message(note)
    training, steps = config.training, count_steps(config.training, len(samples))
    search = new_search(training, steps)
    if search and state.search:
        search = AdaLrs(**state.search)

    def write(out: Path) -> None:
        learner.save(str(out))
        processor.save(out / MODEL)

    watch, pace, due = Stopwatch(), Pace(PACE_STEPS), False
    log = MetricsLog(
        folder,
        resume_at=state.metrics or None,
        required=SFT_KEYS,
        trackers=config.run.trackers,
        settings=config.model_dump(mode="json"),
        say=progress.message,
    )
    with closing(log) as metrics:
        for step, values in supervised_steps(
            learner, samples, training, seed=config.run.seed, done=state.step, search=search
        ):
            spent = watch.lap()
            values |= {"time/step_s": spent["time/step_s"], **pace.after(values["tokens"], spent)}
            metrics.log(step, values)
            progress.update(step, values)
            due = due or step % config.checkpoint.every_steps == 0 or step == steps
            if due and not (search and search.trying):  # what is tried may be undone
                found = search.state_dict() if search else None
                now = replace(state, step=step, metrics=metrics.position(), search=found)
                STEPS.save(folder, step, asdict(now), write, keep=config.checkpoint.keep)
                due = False


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


def _say_what_was_left_out(rows: Imitations, prepared: ImitationSamples, folder: Path, progress: Progress) -> None:
    for note in rows.notes:
        progress.message(note)
    list_left_out(folder, [*rows.bad_rows, *prepared.unusable], progress.message)
    for step, reasons in rows.dropped.items():
        progress.message(f"{step}: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()))
    if prepared.too_long:
        progress.message(f"left out {prepared.too_long:,} rows that are too long")
