"""Prepares a run before any engine starts: problems as prompts, and the weights it begins with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sailrl import plugins
from sailrl.config.learner import RanksConfig
from sailrl.config.schema import RlvrConfig, SourceConfig
from sailrl.config.sft import SftData, SftTraining
from sailrl.curate.held_out import hold_out
from sailrl.data.images import FOLDER, ImageStore
from sailrl.data.problems import load_problems
from sailrl.data.processor import Processor, load_processor
from sailrl.data.template import Template
from sailrl.launch.fingerprint import DIGESTS, model_digest, prompt_settings, source_digest
from sailrl.launch.model_folder import made_once, model_folder
from sailrl.launch.run_folder import list_left_out
from sailrl.learner.build import LearnerSpec, free_memory
from sailrl.learner.shape import model_shape
from sailrl.learner.supervised import SupervisedObjective
from sailrl.plan.memory import published
from sailrl.report.progress import Progress
from sailrl.scoring.answers import check_answers, evenly_spread, task_notes
from sailrl.scoring.spec import ScoringSpec
from sailrl.sft.data import imitation_sample, load_imitations
from sailrl.sft.loop import supervised_steps
from sailrl.sync.disk import VERSIONS, refuse_too_little_room
from sailrl.types import Problem, Prompt


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that does not change during a run."""

    model: str
    """Folder or hub name of the weights that a fresh run starts from."""
    processor: Processor
    images: Path
    """Folder of the image store."""
    train: list[Prompt]
    eval: list[Prompt]


def prepare(config: RlvrConfig, run_dir: Path, progress: Progress, *, resumed: bool = False) -> Prepared:
    """Loads and renders all problems, then builds and warm-starts the model if that is configured.

    What it builds is kept in the run folder and used again. Data is read first, so that a bad row fails in seconds.

    Args:
        resumed: the run goes on from a checkpoint.

    Raises:
        DataError: rows, images or prompts break a rule.
        CheckpointError: what was built is damaged.
        WeightSyncError: the folder that weights go through has too little room.
    """
    bad: list[str] = []
    data, store = config.data, ImageStore(run_dir / FOLDER)

    def problems(source: SourceConfig, section: str) -> list[Problem]:
        loaded = load_problems(
            source, section, on_bad_row=data.on_bad_row, store=store, write_choices=data.write_choices
        )
        bad.extend(map(str, loaded.bad_rows))
        for note in loaded.notes:
            progress.message(note)
        spec = ScoringSpec.from_config(config.rewards)
        unusable = check_answers(spec, evenly_spread(loaded.problems), section)
        tasks = Counter(problem.task or "" for problem in loaded.problems)
        for note in (*unusable, *task_notes(spec, tasks, section)):
            progress.message(note)
        return loaded.problems

    def prompts(source: list[Problem]) -> list[Prompt]:
        rendered = template.render_all(source)
        bad.extend(rendered.unusable)
        if rendered.too_long:
            limit = data.max_prompt_tokens
            progress.message(f"left out {len(rendered.too_long)} prompts longer than {limit} tokens")
        return rendered.prompts

    progress.stage("reading the problems")
    train = problems(data.train, "data.train")
    held_out = problems(data.eval, "data.eval") if data.eval else []
    if data.held_out is not None:
        train, held_out = hold_out(train, data.held_out)
        progress.message(f"{len(held_out):,} of {len(train) + len(held_out):,} problems are held out (data.held_out)")
    for number, source in enumerate(data.more):
        train += problems(source, f"data.more.{number}")
    model = model_folder(config.model, run_dir, progress, resumed=resumed)
    processor = load_processor(config.model, data, model, trained=True)
    if processor.note:
        progress.message(processor.note)
    template = Template(processor, store, data, images_per_prompt=config.rollout.engine.images_per_prompt)
    train_prompts = prompts(train)
    eval_prompts = prompts(held_out) if held_out else []
    if data.instruction:
        progress.message(template.instruction_note(train_prompts[0].problem))
    list_left_out(run_dir, bad, progress.message)
    if config.warm_start is not None:
        warm, first = run_dir / "warm_start", model

        def write(out: Path) -> None:
            _warm_start(config, first, out, processor, run_dir / FOLDER, template)

        made_once(
            warm,
            _warm_start_by(config, first, run_dir),
            write,
            f"warm start: {config.warm_start.steps} supervised steps",
            progress,
            resumed=resumed,
        )
        free_memory()
        model = str(warm)
    if config.sync.method == "disk":
        shape = model_shape(model, trust_remote_code=config.model.trust_remote_code)
        refuse_too_little_room(config.sync.folder, VERSIONS * published(shape, config))
    return Prepared(model, processor, run_dir / FOLDER, train_prompts, eval_prompts)


def _warm_start_by(config: RlvrConfig, model: str, run_dir: Path) -> dict[str, Any]:
    """Everything that decides on what a warm start makes."""
    assert config.warm_start is not None
    path, generate = config.warm_start.data.path, config.warm_start.data.generate
    return {
        **config.warm_start.model_dump(mode="json"),
        "data_content": path and source_digest(path),
        "data_code": generate and plugins.code_digest(generate.use),
        "model": model_digest(model, config.model.trust_remote_code, memory=run_dir / DIGESTS),
        "dtype": config.model.dtype,
        "freeze": list(config.model.freeze),
        **prompt_settings(config.data),
        "seed": config.run.seed,
    }


def _warm_start(
    config: RlvrConfig, model: str, out: Path, processor: Processor, images: Path, template: Template
) -> None:
    start = config.warm_start
    assert start is not None
    rows = load_imitations(SftData(train=start.data), section="warm_start.data", store=ImageStore(images)).rows
    samples = [imitation_sample(row, template, processor) for row in rows]
    training = SftTraining(
        rows_per_step=start.rows_per_step, steps=start.steps, learning_rate=start.learning_rate, schedule="constant"
    )
    learner = LearnerSpec(
        config.model.model_copy(update={"lora": None}),  # RL's adapter starts on what this makes
        config.data,
        training.learner(RanksConfig()),
        SupervisedObjective(training.loss_reduction),
        weights=model,
        images=str(images),
        seed=config.run.seed,
    ).build()
    for _ in supervised_steps(learner, samples, training, seed=config.run.seed):
        pass
    learner.policy.save(out)
    processor.save(out)
