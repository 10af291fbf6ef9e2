"""Rollout engines as every job that samples uses them: the same engine, the same pool, the same scoring."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sailrl.config.schema import EngineConfig, ModelConfig, PromptConfig, SamplingConfig
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor, load_processor
from sailrl.rollout.engine import Engine, Sampling
from sailrl.rollout.pool import RolloutPool
from sailrl.scoring.scorer import Scorer
from sailrl.sync.ipc import ENGINE_ENVIRONMENT
from sailrl.types import Completion, Prompt, Rollout

WORKER_EXTENSION = "sailrl.sync.vllm_worker.WorkerExtension"


def open_pool(
    model: ModelConfig,
    data: PromptConfig,
    rollout: SamplingConfig,
    *,
    weights: str,
    images: str,
    seed: int,
    places: Sequence[Mapping[str, Any]],
    transfer: str = "disk",
    sleeps: bool = False,
    say: Callable[[str], None],
    experts: bool = False,
) -> RolloutPool:
    """The rollout workers of a configuration; their engines begin to load.

    Args:
        weights: folder or hub name of what the engines start from.
        images: folder of the image store.
        places: Ray's options for each worker.
        transfer: how weights will reach the engines (``sync.method``).
        sleeps: whether the engines share their GPUs, and will be sent to sleep.
        say: told when a worker dies and is replaced.
        experts: whether completions bring the experts that the engine chose (vLLM can on GPUs only).
    """
    return RolloutPool(
        partial(
            build_engine,
            model,
            data,
            rollout,
            weights=weights,
            images=images,
            seed=seed,
            transfer=transfer,
            sleeps=sleeps,
            experts=experts,
        ),
        workers=rollout.workers,
        in_flight=rollout.engine.max_concurrent,
        timeout_s=rollout.timeout_s,
        start_timeout_s=rollout.engine.start_timeout_s,
        max_restarts=rollout.max_restarts,
        say=say,
        places=places,
    )


def build_engine(
    model: ModelConfig,
    data: PromptConfig,
    rollout: SamplingConfig,
    *,
    weights: str,
    images: str,
    seed: int,
    transfer: str = "disk",
    sleeps: bool = False,
    experts: bool = False,
) -> Engine:
    """Makes one engine; called in the worker's process."""
    from sailrl.rollout.vllm_engine import VllmEngine

    engine = rollout.engine
    options: dict[str, Any] = {
        "dtype": model.dtype,
        "max_num_seqs": engine.max_concurrent,
        "tensor_parallel_size": engine.tensor_parallel,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "enforce_eager": engine.enforce_eager,
        "trust_remote_code": model.trust_remote_code,
        "seed": seed,
    }
    if experts:
        options["enable_return_routed_experts"] = True
    if transfer != "disk":
        options["weight_transfer_config"] = {"backend": transfer}
    if transfer == "ipc":
        os.environ.update(ENGINE_ENVIRONMENT)  # this process's and, through it, the engine's
    options |= image_options(data, engine, load_processor(model, data, weights))
    return VllmEngine(
        weights,
        max_tokens=data.max_prompt_tokens + rollout.max_response_tokens,
        options=options,
        kv_cache_gib=engine.kv_cache_gib,
        worker_extension=WORKER_EXTENSION,
        load_image=ImageStore(Path(images)).image,
        sleeps=sleeps,
    )


def image_options(data: PromptConfig, engine: EngineConfig, processor: Processor) -> dict[str, Any]:
    """How vLLM is told to treat images: as the processor does. Nothing for a text-only model."""
    if processor.image_id is None:
        return {}
    options: dict[str, Any] = {"limit_mm_per_prompt": {"image": engine.images_per_prompt, "video": 0}}
    if data.min_pixels is not None or data.max_pixels is not None:
        size = processor.full.image_processor.size
        # Both edges, though only one may be configured: vLLM hands them on as they are.
        options["mm_processor_kwargs"] = {
            "size": {"shortest_edge": size["shortest_edge"], "longest_edge": size["longest_edge"]}
        }
    return options


def sampling_of(rollout: SamplingConfig, samples: int, banned_ids: Sequence[int]) -> Sampling:
    """How ``samples`` responses per prompt are drawn."""
    return Sampling(
        samples=samples,
        temperature=rollout.temperature,
        max_tokens=rollout.max_response_tokens,
        top_p=rollout.top_p,
        top_k=rollout.top_k,
        banned_ids=banned_ids,
    )


async def score_rollout(scorer: Scorer, prompt: Prompt, completion: Completion) -> Rollout:
    """Scores one completion with the configured rewards."""
    scored = await scorer.score(completion.text, prompt.problem, response_tokens=len(completion.token_ids))
    return Rollout(completion, scored.scores, scored.total.value, scored.total.reason)
