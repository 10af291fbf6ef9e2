"""Builds the parts of an RL run from its configuration: the one place where the rooms are put together."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sailrl.config.schema import RlvrConfig
from sailrl.data.images import ImageStore
from sailrl.data.processor import load_processor
from sailrl.data.sampler import ShufflingSampler
from sailrl.jobs import run_state
from sailrl.jobs.engine_inputs import image_options
from sailrl.jobs.episode import clip_controller
from sailrl.jobs.parts import Session
from sailrl.jobs.placement import gpus, places
from sailrl.jobs.prepare import Prepared
from sailrl.jobs.run_state import RunState
from sailrl.learner.group import LearnerGroup
from sailrl.report.metrics import MetricsLog
from sailrl.report.progress import Progress
from sailrl.report.traces import RolloutLog
from sailrl.rollout.collect import Collector
from sailrl.rollout.engine import Engine, Sampling
from sailrl.rollout.pool import RolloutPool
from sailrl.scoring.scorer import Scorer
from sailrl.scoring.spec import ScoringSpec
from sailrl.sync.base import WeightSync
from sailrl.sync.disk import DiskSync
from sailrl.sync.ipc import ENGINE_ENVIRONMENT, IpcSync
from sailrl.sync.nccl import NcclSync
from sailrl.sync.probe import Probe
from sailrl.types import Completion, Prompt, Rollout

WORKER_EXTENSION = "sailrl.sync.vllm_worker.WorkerExtension"
PROBE_PROMPTS = 2
TEXT_PROBE_PROMPTS = 32


@asynccontextmanager
async def open_session(
    config: RlvrConfig, run_dir: Path, prepared: Prepared, progress: Progress
) -> AsyncIterator[Session]:
    """Starts engines, learner and scorer, restores the last checkpoint if there is one; ends them all afterwards."""
    checkpoint = run_state.latest(run_dir)
    state = run_state.load(checkpoint) if checkpoint else RunState()
    weights = str(checkpoint / "model") if checkpoint else prepared.model
    prompts, banned = prepared.train, prepared.processor.banned_ids

    progress.stage(f"starting {config.rollout.workers} engine(s) and {config.learner.ranks} learner rank(s)")
    where = places(config, gpus())
    scorer = Scorer(ScoringSpec.from_config(config.rewards))
    pool = RolloutPool(
        partial(build_engine, config, weights, str(prepared.images)),
        workers=config.rollout.workers,
        in_flight=config.rollout.engine.max_concurrent,
        timeout_s=config.rollout.timeout_s,
        start_timeout_s=config.rollout.engine.start_timeout_s,
        places=where.workers,
    )
    learners = LearnerGroup(
        config,
        weights,
        str(prepared.images),
        state=str(checkpoint) if checkpoint else None,
        places=where.ranks,
    )
    sync = build_sync(config, learners, pool)
    try:
        await pool.start()
        collector = Collector(
            prompts,
            ShufflingSampler(len(prompts), config.run.seed),
            pool,
            partial(score_rollout, scorer),
            sampling=Sampling(
                samples=config.batch.group_size,
                temperature=config.rollout.temperature,
                max_tokens=config.rollout.max_response_tokens,
                top_p=config.rollout.top_p,
                top_k=config.rollout.top_k,
                banned_ids=banned,
            ),
            settings=config.rollout.dynamic_sampling,
            accuracy=config.rewards.accuracy_part,
            max_unscored_rate=config.rewards.max_unscored_rate,
            seed=config.run.seed if config.run.deterministic else None,
        )
        clip = clip_controller(config.algorithm, state.clip)
        if checkpoint:
            collector.load_state_dict(state.collector)
        metrics = MetricsLog(run_dir, resume_at=state.metrics or None)
        rollouts = RolloutLog(run_dir, accuracy=config.rewards.accuracy_part, resume_at=state.rollouts or None)
        probe = Probe(learners, pool, _probe_prompts(prompts), tolerance=config.sync.probe_tolerance)
        yield Session(
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
        )
        metrics.close()
        rollouts.close()
    finally:
        sync.close()
        scorer.close()
        await pool.stop()
        learners.stop()


def build_sync(config: RlvrConfig, learners: LearnerGroup, pool: RolloutPool) -> WeightSync:
    """The configured way of weights from the learner to the engines."""
    timeout_s, engines = config.sync.timeout_s, config.rollout.workers
    match config.sync.method:
        case "disk":
            return DiskSync(learners, pool, timeout_s=timeout_s)
        case "nccl":
            width = config.rollout.engine.tensor_parallel
            return NcclSync(learners, pool, engines=engines, gpus_per_engine=width, timeout_s=timeout_s)
        case "ipc":
            return IpcSync(learners, pool, engines=engines, timeout_s=timeout_s)


def build_engine(config: RlvrConfig, model: str, images: str) -> Engine:
    """Makes one engine; called in the worker's process."""
    from sailrl.rollout.vllm_engine import VllmEngine

    engine = config.rollout.engine
    options: dict[str, Any] = {
        "dtype": config.model.dtype,
        "max_num_seqs": engine.max_concurrent,
        "tensor_parallel_size": engine.tensor_parallel,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "enforce_eager": engine.enforce_eager,
        "trust_remote_code": config.model.trust_remote_code,
        "seed": config.run.seed,
    }
    if config.sync.method != "disk":
        options["weight_transfer_config"] = {"backend": config.sync.method}
    if config.sync.method == "ipc":
        os.environ.update(ENGINE_ENVIRONMENT)  # this process's and, through it, the engine's
    options |= image_options(config, load_processor(config, model))
    return VllmEngine(
        model,
        max_tokens=config.data.max_prompt_tokens + config.rollout.max_response_tokens,
        options=options,
        kv_cache_gib=engine.kv_cache_gib,
        worker_extension=WORKER_EXTENSION,
        load_image=ImageStore(Path(images)).image,
    )


async def score_rollout(scorer: Scorer, prompt: Prompt, completion: Completion) -> Rollout:
    """Scores one completion with the configured rewards."""
    scored = await scorer.score(completion.text, prompt.problem, response_tokens=len(completion.token_ids))
    return Rollout(completion, scored.scores, scored.total.value, scored.total.reason)


def _probe_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """A few prompts with images and a few without, as far as there are any."""
    seeing = [prompt for prompt in prompts if prompt.images]
    blind = [prompt for prompt in prompts if not prompt.images]
    return seeing[:PROBE_PROMPTS] + blind[:PROBE_PROMPTS]
