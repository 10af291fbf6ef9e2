"""Builds the parts of an RL run from its configuration: the one place where the rooms are put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sailrl.algos.clip import ClipController
from sailrl.config.schema import RlvrConfig, SourceConfig
from sailrl.data.problems import load_problems
from sailrl.data.sampler import ShufflingSampler
from sailrl.data.template import Template
from sailrl.jobs import run_state
from sailrl.jobs.parts import Session
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
from sailrl.sync.disk import DiskSync
from sailrl.sync.probe import Probe
from sailrl.types import Completion, Prompt, Rollout

WORKER_EXTENSION = "sailrl.sync.vllm_worker.WorkerExtension"
PROBE_PROMPTS = 4
LISTED_BAD_ROWS = "bad_rows.txt"


@asynccontextmanager
async def open_session(config: RlvrConfig, run_dir: Path, model: str, progress: Progress) -> AsyncIterator[Session]:
    """Starts engines, learner and scorer, restores the last checkpoint if there is one, and ends them all afterwards.

    Args:
        model: folder of the weights that a fresh run starts from.
    """
    checkpoint = run_state.latest(run_dir)
    state = run_state.load(checkpoint) if checkpoint else RunState()
    weights = str(checkpoint / "model") if checkpoint else model
    tokenizer = load_tokenizer(model, config.model.trust_remote_code)
    template = Template(tokenizer, config.data)
    prompts = _prompts(config.data.train, config, template, run_dir, progress)
    eval_prompts = _prompts(config.data.eval, config, template, run_dir, progress) if config.data.eval else []
    banned = banned_ids(tokenizer)

    progress.stage(f"starting {config.rollout.workers} engine(s) and {config.learner.ranks} learner rank(s)")
    scorer = Scorer(ScoringSpec.from_config(config.rewards))
    pool = RolloutPool(
        partial(build_engine, config, weights),
        workers=config.rollout.workers,
        in_flight=config.rollout.engine.max_concurrent,
        timeout_s=config.rollout.timeout_s,
        start_timeout_s=config.rollout.engine.start_timeout_s,
    )
    learners = LearnerGroup(config, weights, banned, state=str(checkpoint) if checkpoint else None)
    sync = DiskSync(learners, pool, timeout_s=config.sync.timeout_s)
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
        clip = ClipController(**config.algorithm.clip.model_dump())
        if checkpoint:
            collector.load_state_dict(state.collector)
            clip.load_state_dict(state.clip)
        metrics = MetricsLog(run_dir, resume_at=state.metrics or None)
        rollouts = RolloutLog(run_dir, accuracy=config.rewards.accuracy_part, resume_at=state.rollouts or None)
        probe = Probe(learners, pool, prompts[:PROBE_PROMPTS], tolerance=config.sync.probe_tolerance)
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
            eval_prompts=eval_prompts,
            banned_ids=banned,
            tokenizer=tokenizer,
        )
        metrics.close()
        rollouts.close()
    finally:
        sync.close()
        scorer.close()
        await pool.stop()
        learners.stop()


def build_engine(config: RlvrConfig, model: str) -> Engine:
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
    return VllmEngine(
        model,
        max_tokens=config.data.max_prompt_tokens + config.rollout.max_response_tokens,
        options=options,
        kv_cache_gib=engine.kv_cache_gib,
        worker_extension=WORKER_EXTENSION,
    )


async def score_rollout(scorer: Scorer, prompt: Prompt, completion: Completion) -> Rollout:
    """Scores one completion with the configured rewards."""
    scored = await scorer.score(completion.text, prompt.problem, response_tokens=len(completion.token_ids))
    return Rollout(completion, scored.scores, scored.total.value, scored.total.reason)


def load_tokenizer(model: str, trust_remote_code: bool) -> Any:
    """The model's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)


def banned_ids(tokenizer: Any) -> list[int]:
    """Placeholders of images and videos: sampled by a model, they would ask the next forward pass for pixels."""
    known = tokenizer.get_vocab()
    return [known[token] for token in ("<|image_pad|>", "<|video_pad|>") if token in known]


def _prompts(
    source: SourceConfig, config: RlvrConfig, template: Template, run_dir: Path, progress: Progress
) -> list[Prompt]:
    loaded = load_problems(source, on_bad_row=config.data.on_bad_row)
    rendered = template.render_all(loaded.problems)
    if loaded.bad_rows:
        with (run_dir / LISTED_BAD_ROWS).open("a") as file:
            file.writelines(f"{row}\n" for row in loaded.bad_rows)
        progress.message(f"left out {len(loaded.bad_rows)} bad rows, listed in {run_dir / LISTED_BAD_ROWS}")
    if rendered.too_long:
        progress.message(
            f"left out {len(rendered.too_long)} of {len(loaded.problems)} problems: "
            f"prompts longer than {config.data.max_prompt_tokens} tokens"
        )
    return rendered.prompts
