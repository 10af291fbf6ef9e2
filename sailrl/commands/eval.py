"""``sailrl eval``: models side by side on held-out problems, through the engines and rewards that training uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from sailrl.commands.eval_sets import HeldOut, held_out_sets
from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.schema import ModelConfig
from sailrl.curate.candidates import problem_digest
from sailrl.data.images import FOLDER, ImageStore
from sailrl.data.jsonl import AppendOnlyFile
from sailrl.data.processor import Processor, load_processor
from sailrl.data.template import Template
from sailrl.launch.asked import asked_otherwise
from sailrl.launch.engines import EngineSpec, open_pool, score_rollout, starting
from sailrl.launch.fingerprint import digest, model_digest, prompt_settings
from sailrl.launch.placement import cluster, nodes, worker_options
from sailrl.launch.run_folder import list_left_out
from sailrl.launch.starts import UNTYPED, Start
from sailrl.report.evals import EVALS, RESPONSES, print_evals, read_evals
from sailrl.report.progress import Progress, open_progress
from sailrl.report.shown import percent
from sailrl.report.traces import problem_fields, rollout_fields
from sailrl.rollout.collect import check_unscored, sample_groups, wave_seed
from sailrl.rollout.engine import Sampling
from sailrl.rollout.pool import RolloutPool
from sailrl.scoring.resume import identity
from sailrl.scoring.scorer import Scorer
from sailrl.scoring.spec import ScoringSpec
from sailrl.types import Group, Problem


def start_eval(config: EvaluateConfig, folder: Path, start: Start = UNTYPED) -> None:
    """Tries every model in every way of asking that ``evals.jsonl`` does not have yet, and prints the table.

    Raises:
        SailError: a model, a problem or an engine cannot be used.
    """
    start.begins(config, folder)
    sets = held_out_sets(config, folder / FOLDER)
    wanted = {(*key, number): what for number, one in enumerate(sets) for key, what in _wanted(config, one).items()}
    todo = {key: what for key, what in wanted.items() if _line(what, folder) is None}
    if todo:
        with open_progress(folder.name, len(wanted)) as progress:
            list_left_out(folder, [bad for one in sets for bad in one.bad_rows], progress.message)
            for note in (*(note for one in sets for note in one.notes), *asked_otherwise(config)):
                progress.message(note)
            asyncio.run(_try_all(config, folder, sets, dict(sorted(todo.items(), key=_by_model(config))), progress))
    print_evals(folder, [line for what in wanted.values() if (line := _line(what, folder))])


async def _try_all(
    config: EvaluateConfig,
    folder: Path,
    sets: list[HeldOut],
    todo: dict[tuple[str, str, int], dict[str, Any]],
    progress: Progress,
) -> None:
    """Tries every model in every way on every set of ``todo``, which says what its line is about."""
    progress.stage("starting Ray")
    with (
        closing(AppendOnlyFile.going_on(folder / EVALS)) as evals,
        closing(AppendOnlyFile.going_on(folder / RESPONSES)) as responses,
        cluster(folder),
    ):
        engines = _Engines(config, folder, progress)
        try:
            for (name, asked, number), what in todo.items():
                held_out, pool = sets[number], await engines.holding(config.models[name])
                doing = f"{name}, {asked}" + (f", {held_out.name}" if held_out.name else "")
                progress.doing(doing)
                processor = load_processor(config.models[name], config.data, config.models[name].path or "")
                if processor.note:
                    progress.message(f"{name}: {processor.note}")
                with Scorer(ScoringSpec.from_config(held_out.rewards), say=progress.message) as scorer:
                    groups = await _sample(config, folder, held_out.problems, processor, asked, pool, scorer)
                # Before anything that can stop the evaluation.
                responses.append(*_rows(groups, name, asked, held_out.rewards.accuracy_part))
                check_unscored(groups, held_out.rewards.max_unscored_rate)
                result = what | held_out.numbers(groups)
                evals.append(result)
                progress.message(
                    f"{doing}: accuracy {percent(result['accuracy'])}, {result['response_tokens']:.1f} tokens"
                )
        finally:
            await engines.stop()


def _by_model(config: EvaluateConfig) -> Callable[[tuple[tuple[str, str, int], Any]], tuple[int, int, int]]:
    """The order in which each model's weights are loaded once."""
    models, ways = list(config.models), list(config.instructions)
    return lambda item: (models.index(item[0][0]), ways.index(item[0][1]), item[0][2])


class _Engines:
    """One set of engines that loads the weights of one model after another, and restarts for another kind of model."""

    def __init__(self, config: EvaluateConfig, folder: Path, progress: Progress) -> None:
        self._config, self._folder, self._progress = config, folder, progress
        self._pool: RolloutPool | None = None
        self._model: ModelConfig | None = None
        self._version = 0

    async def holding(self, model: ModelConfig) -> RolloutPool:
        """The engines, with the weights of ``model``."""
        assert model.path is not None
        if self._pool is not None and self._model is not None and model != self._model:
            if _same_but_weights(self._model, model):
                self._version += 1
                await self._pool.load_weights(model.path, self._version, timeout_s=self._config.rollout.timeout_s)
            else:
                await self.stop()
        if self._pool is None:
            rollout = self._config.rollout
            self._progress.stage(f"starting {starting(rollout)}")
            images, seed = str(self._folder / FOLDER), self._config.run.seed
            spec = EngineSpec(model, self._config.data, rollout, weights=model.path, images=images, seed=seed)
            self._pool = open_pool(spec, actor_options=worker_options(rollout, nodes()), notify=self._progress.message)
            await self._pool.start()
        self._model = model
        return self._pool

    async def stop(self) -> None:
        """Frees the engines."""
        if self._pool is not None:
            await self._pool.stop()
        self._pool = None


def _same_but_weights(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether two models differ in their weights only: shape, tokenizer, processor and the tokens that end a response
    are the same."""
    first, second = (_all_but_weights(Path(model.path or "").expanduser()) for model in (one, other))
    return "config.json" in first and first == second and one.dtype == other.dtype


def _all_but_weights(folder: Path) -> dict[str, bytes]:
    """The files of a model folder except its weights, by name; empty for a model on the hub."""
    files = (path for path in folder.glob("[!.]*") if path.suffix in (".json", ".jinja", ".txt", ".model"))
    return {path.name: path.read_bytes() for path in files if not path.name.endswith(".index.json")}


async def _sample(
    config: EvaluateConfig,
    folder: Path,
    problems: list[Problem],
    processor: Processor,
    asked: str,
    pool: RolloutPool,
    scorer: Scorer,
) -> list[Group]:
    data = config.data.model_copy(update={"instruction": config.instructions[asked]})
    images = config.rollout.engine.images_per_prompt
    template = Template(processor, ImageStore(folder / FOLDER), data, images_per_prompt=images)
    sampling = Sampling.of(config.rollout, config.samples, processor, temperature=config.temperature)
    seed = wave_seed(config.run.seed, "eval", 0, 0) if config.run.deterministic else None
    prompts = template.render_all(problems).prompts
    return await sample_groups(pool, partial(score_rollout, scorer), prompts, sampling, seed)


def _rows(groups: list[Group], name: str, asked: str, part: str) -> list[dict[str, Any]]:
    """Every response, as ``sailrl score`` reads it."""
    return [
        {"model": name, "asked": asked, **problem_fields(group.prompt.problem), **rollout_fields(rollout, part)}
        for group in groups
        for rollout in group.rollouts
    ]


def _wanted(config: EvaluateConfig, held_out: HeldOut) -> dict[tuple[str, str], dict[str, Any]]:
    """What identifies the result of each model and instruction; when one of these values changes, it is tried again."""
    settings, found = _settings(config, held_out), {}
    for name, model in config.models.items():
        model_hash = model_digest(model.path or "", model.trust_remote_code)
        for asked, instruction in config.instructions.items():
            found[name, asked] = {
                "model": name,
                "path": model.path,
                "hash": model_hash,
                "dtype": model.dtype,
                "asked": asked,
                "instruction": instruction,
                "samples": config.samples,
                "temperature": config.temperature,
                "settings": settings,
                **held_out.about,
            }
    return found


def _line(what: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """The last line of ``evals.jsonl`` with these values; None when it was not tried."""
    return next((line for line in reversed(read_evals(folder)) if what.items() <= line.items()), None)


def _settings(config: EvaluateConfig, held_out: HeldOut) -> str:
    """Fingerprint of what is the same for all results: the content of the problems, how they are rendered and sampled,
    and what scores the responses, including its code."""
    run, rollout = config.run, config.rollout
    return digest(
        {
            "problems": [problem_digest(problem) for problem in held_out.problems],
            "prompt": prompt_settings(config.data.model_copy(update={"instruction": ""})),
            "longest": [config.data.max_prompt_tokens, config.data.on_long_prompt],
            "sampling": rollout.model_dump(include={"top_p", "top_k", "max_response_tokens"}),
            "images_per_prompt": rollout.engine.images_per_prompt,
            "seed": run.seed if run.deterministic else None,
            "rewards": identity(ScoringSpec.from_config(held_out.rewards)),
            "accuracy": held_out.rewards.accuracy_part,
        }
    )
