"""The rollout engines of all jobs that sample: RL, filters and evaluations use the same engine, pool and scoring."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sailrl.config.schema import EngineConfig, ModelConfig, PromptConfig, SamplingConfig
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor, load_processor
from sailrl.report.shown import counted
from sailrl.rollout.engine import Engine
from sailrl.rollout.pool import RolloutPool
from sailrl.scoring.scorer import Scorer
from sailrl.sync.ipc import ENGINE_ENVIRONMENT
from sailrl.types import Completion, Prompt, Rollout

WORKER_EXTENSION = "sailrl.sync.vllm_worker.WorkerExtension"


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """All settings of an engine. It is pickled to the worker, which builds the engine there."""

    model: ModelConfig
    data: PromptConfig
    rollout: SamplingConfig
    weights: str
    """Folder or hub name of the model it starts with."""
    images: str
    """Folder of the image store."""
    seed: int
    transfer: str = "disk"
    """How it gets new weights: ``sync.method``."""
    sleeps: bool = False
    """Whether it shares its GPUs with the learner, so that it must sleep meanwhile."""
    experts: bool = False
    """Whether completions include the experts of each token (vLLM can on GPUs only)."""

    def build(self) -> Engine:
        """Makes the engine; called in the worker's process."""
        from sailrl.rollout.vllm_engine import VllmEngine

        engine = self.rollout.engine
        if self.transfer == "ipc":
            os.environ.update(ENGINE_ENVIRONMENT)  # this process's and, through it, the engine's
        options = self.options()
        processor = load_processor(self.model, self.data, self.weights)
        options |= processor.engine_options | image_options(self.data, engine, processor)
        return VllmEngine(
            self.weights,
            max_tokens=self.data.max_prompt_tokens + self.rollout.max_response_tokens,
            options=options,
            kv_cache_gib=engine.kv_cache_gib,
            worker_extension=WORKER_EXTENSION,
            load_image=ImageStore(Path(self.images)).image,
            crowding=processor.crowding,
            threads=engine_threads(self.rollout.workers),
            sleeps=self.sleeps,
        )

    def options(self) -> dict[str, Any]:
        """The keyword arguments of vLLM's ``AsyncEngineArgs`` that follow from the configuration, without those for
        images. Options that the configuration gives by vLLM's own names override the others."""
        engine = self.rollout.engine
        options: dict[str, Any] = {
            "dtype": self.model.dtype,
            "max_num_seqs": engine.max_concurrent,
            "max_num_batched_tokens": engine.max_num_batched_tokens,
            "tensor_parallel_size": engine.tensor_parallel,
            "gpu_memory_utilization": engine.gpu_memory_utilization,
            "enforce_eager": engine.enforce_eager,
            "trust_remote_code": self.model.trust_remote_code,
            "seed": self.seed,
        }
        if engine.tensor_parallel > 1:
            # In an actor of a placement group vLLM would choose Ray, which takes bundles of one GPU only.
            options["distributed_executor_backend"] = "mp"
        if self.model.dtype != "float32":
            options["hf_overrides"] = {"head_dtype": "float32"}  # the learner computes logits in float32
        if self.experts:
            options["enable_return_routed_experts"] = True
        if self.transfer != "disk":
            options["weight_transfer_config"] = {"backend": self.transfer}
        return options | (engine.model_extra or {})


def engine_threads(workers: int) -> int:
    """CPU threads of each of ``workers`` engines on this machine. One core is left for everything else: requests,
    decoding, scoring."""
    return max(1, (len(os.sched_getaffinity(0)) - 1) // workers)


def starting(rollout: SamplingConfig) -> str:
    """The progress message for the start of the engines."""
    compiled = "" if rollout.engine.enforce_eager else " and compiles it"
    return f"{counted(rollout.workers, 'engine')} (vLLM loads the model{compiled})"


def open_pool(
    spec: EngineSpec, *, actor_options: Sequence[Mapping[str, Any]], notify: Callable[[str], None]
) -> RolloutPool:
    """The rollout workers of a configuration; their engines begin to load.

    Args:
        actor_options: Ray's options for each worker.
        notify: called with one line when a worker dies or is replaced.
    """
    rollout = spec.rollout
    return RolloutPool(
        spec.build,
        workers=rollout.workers,
        in_flight=rollout.engine.max_concurrent,
        timeout_s=rollout.timeout_s,
        start_timeout_s=rollout.engine.start_timeout_s,
        max_restarts=rollout.max_restarts,
        notify=notify,
        actor_options=actor_options,
    )


def image_options(data: PromptConfig, engine: EngineConfig, processor: Processor) -> dict[str, Any]:
    """vLLM's options for images, so that it resizes them as the processor does; empty for a text-only model."""
    if processor.image_id is None:
        return {}
    options: dict[str, Any] = {"limit_mm_per_prompt": {"image": engine.images_per_prompt, "video": 0}}
    if data.min_pixels is not None or data.max_pixels is not None:
        options["mm_processor_kwargs"] = processor.engine_limits()
    return options


async def score_rollout(scorer: Scorer, prompt: Prompt, completion: Completion) -> Rollout:
    """Scores one completion with the configured rewards."""
    scored = await scorer.score(completion.text, prompt.problem, response_tokens=len(completion.token_ids))
    return Rollout(completion, scored.scores, scored.total.value, scored.total.reason)
