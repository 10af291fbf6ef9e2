"""Builds the parts of an RL run from its configuration. Only here are rollout, learner, sync and scoring connected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sailrl.config.schema import RlvrConfig
from sailrl.data.images import ImageStore
from sailrl.data.sampler import ShufflingSampler
from sailrl.data.template import Template
from sailrl.launch.engines import EngineSpec, open_pool, score_rollout, starting
from sailrl.launch.placement import actor_options, nodes
from sailrl.learner.build import LearnerSpec
from sailrl.learner.group import LearnerGroup
from sailrl.learner.objective import Objective
from sailrl.report.metrics import MetricsLog
from sailrl.report.progress import Progress
from sailrl.report.shown import counted
from sailrl.report.traces import RolloutLog
from sailrl.rl import checkpoints
from sailrl.rl.checkpoints import RunState
from sailrl.rl.episode import clip_controller
from sailrl.rl.identity import same_draws
from sailrl.rl.prepare import Prepared
from sailrl.rl.probe_prompts import probe_prompts
from sailrl.rl.session import Session
from sailrl.rl.stop import Stop
from sailrl.rollout.collect import Collector, ScoreFn
from sailrl.rollout.engine import Pool, Sampling
from sailrl.rollout.pool import RolloutPool
from sailrl.rollout.stream import StreamCollector
from sailrl.scoring.scorer import Scorer
from sailrl.scoring.spec import ScoringSpec
from sailrl.sync.base import WeightSync
from sailrl.sync.disk import DiskSync
from sailrl.sync.ipc import IpcSync
from sailrl.sync.nccl import NcclSync
from sailrl.sync.probe import Probe
from sailrl.types import Prompt

TEXT_PROBE_PROMPTS = 32


@asynccontextmanager
async def open_session(
    config: RlvrConfig,
    run_dir: Path,
    prepared: Prepared,
    progress: Progress,
    stop: Stop,
    *,
    identity: Mapping[str, Any],
    engines: RolloutPool | None = None,
) -> AsyncIterator[Session]:
    """Starts engines, learner and scorer, and restores the last checkpoint if there is one. Ends them all afterwards.

    Args:
        identity: see ``rl.identity``. If it has other problems than the checkpoint, they are drawn from the beginning.
        engines: engines without GPUs that run already; they are used and not ended. They get this run's weights at
            the first publish.
    """
    async with AsyncExitStack() as ending:
        yield await _open(config, run_dir, prepared, progress, stop, identity, ending, engines)


async def _open(
    config: RlvrConfig,
    run_dir: Path,
    prepared: Prepared,
    progress: Progress,
    stop: Stop,
    identity: Mapping[str, Any],
    ending: AsyncExitStack,
    engines: RolloutPool | None,
) -> Session:
    checkpoint = checkpoints.latest(run_dir)
    state = checkpoints.load(checkpoint) if checkpoint else RunState()
    prompts = prepared.train

    progress.stage(f"starting {starting(config.rollout)} and {counted(config.learner.ranks, 'learner rank')}")
    options = actor_options(config, nodes())
    colocated = config.placement == "colocated"
    scorer = Scorer(ScoringSpec.from_config(config.rewards), say=progress.message)
    ending.callback(scorer.close)
    pool = engines
    if pool is None:
        spec = engine_spec(config, prepared)
        pool = open_pool(spec, actor_options=options.workers, notify=progress.message)
        ending.push_async_callback(pool.stop)
    if colocated:  # an engine reserves a share of free memory at its start, so ranks start when it sleeps
        await pool.start()
        if not await pool.sleep():
            progress.message("engines cannot sleep on this machine: they keep their memory while the learner trains")
    learners = LearnerGroup(learner_spec(config, prepared, checkpoint), actor_options=options.ranks)
    ending.callback(learners.stop)
    if note := learners.note():
        progress.message(note)
    sync = build_sync(config, learners, pool)
    ending.callback(sync.close)
    await pool.start()
    sampling = Sampling.of(config.rollout, config.batch.group_size, prepared.processor)
    collector = build_collector(config, prompts, pool, partial(score_rollout, scorer), sampling)
    ending.push_async_callback(collector.stop)
    clip = clip_controller(config.algorithm, state.clip)
    if checkpoint and same_draws(state.identity, identity):
        collector.load_state_dict(state.collector)
    elif checkpoint:
        progress.message("with other problems or another seed, problems are drawn from the beginning")
    state.identity = dict(identity)
    metrics = MetricsLog(
        run_dir,
        resume_at=state.metrics or None,
        trackers=config.run.trackers,
        settings=config.model_dump(mode="json"),
        say=progress.message,
    )
    ending.callback(metrics.close)
    rollouts = RolloutLog(run_dir, accuracy=config.rewards.accuracy_part, resume_at=state.rollouts or None)
    ending.callback(rollouts.close)
    template = Template(prepared.processor, ImageStore(prepared.images), config.data)
    asked = probe_prompts(prompts, template, prepared.processor)
    probe = Probe(learners, pool, asked, dtype=config.model.dtype, tolerance=config.sync.probe_tolerance)
    pool.verify_replacements(probe.prove)
    return Session(
        state=state,
        learners=learners,
        pool=pool,
        collector=collector,
        sync=sync,
        probe=probe,
        metrics=metrics,
        rollouts=rollouts,
        clip=clip,
        eval_prompts=prepared.eval,
        text_probe=[prompt for prompt in prepared.eval or prompts if not prompt.images][:TEXT_PROBE_PROMPTS],
        processor=prepared.processor,
        say=progress.message,
        score_metrics=scorer.metrics,
        stop=stop,
        colocated=colocated,
    )


def learner_spec(config: RlvrConfig, prepared: Prepared, checkpoint: Path | None) -> LearnerSpec:
    """The learner of a run. An adapter is loaded on top of the model that the run began with."""
    return LearnerSpec(
        config.model,
        config.data,
        config.learner,
        Objective(config.algorithm, config.mismatch, max_response_tokens=config.rollout.max_response_tokens),
        weights=prepared.model if checkpoint is None or config.model.lora else str(checkpoint / "model"),
        images=str(prepared.images),
        seed=config.run.seed,
        state=None if checkpoint is None else str(checkpoint),
        temperature=config.rollout.temperature,
        banned_ids=tuple(prepared.processor.banned_ids),
        reference=prepared.model if config.algorithm.kl_coef else None,
    )


def engine_spec(config: RlvrConfig, prepared: Prepared) -> EngineSpec:
    """The engines of a run. They always load the weights of the run's start, also after a resume: the first publish
    sends the current ones, and a checkpoint may be removed before an engine is replaced."""
    return EngineSpec(
        config.model,
        config.data,
        config.rollout,
        weights=prepared.model,
        images=str(prepared.images),
        seed=config.run.seed,
        transfer=config.sync.method,
        sleeps=config.placement == "colocated",
        experts=config.learner.routing_replay == "r3",
    )


def build_collector(
    config: RlvrConfig, prompts: Sequence[Prompt], pool: Pool, score: ScoreFn, sampling: Sampling
) -> Collector:
    """A ``Collector`` where generation and learning alternate; a ``StreamCollector`` where they overlap
    (``rollout.max_staleness`` of 1 or more)."""
    rollout = config.rollout
    kind: Callable[..., Collector] = Collector
    if rollout.max_staleness:
        kind = partial(StreamCollector, max_staleness=rollout.max_staleness)
    return kind(
        prompts,
        ShufflingSampler(len(prompts), config.run.seed),
        pool,
        score,
        sampling=sampling,
        settings=rollout.dynamic_sampling,
        accuracy=config.rewards.accuracy_part,
        max_unscored_rate=config.rewards.max_unscored_rate,
        seed=config.run.seed if config.run.deterministic else None,
    )


def build_sync(config: RlvrConfig, learners: LearnerGroup, pool: RolloutPool) -> WeightSync:
    """The configured method that sends weights from the learner to the engines."""
    timeout_s, engines = config.sync.timeout_s, config.rollout.workers
    match config.sync.method:
        case "disk":
            return DiskSync(learners, pool, timeout_s=timeout_s, folder=config.sync.folder)
        case "nccl":
            width = config.rollout.engine.tensor_parallel
            return NcclSync(learners, pool, engines=engines, gpus_per_engine=width, timeout_s=timeout_s)
        case "ipc":
            return IpcSync(learners, pool, engines=engines, timeout_s=timeout_s)
