"""Routing replay R3 on a real engine: vLLM returns the experts it chose on GPUs only.

Run with ``pytest tests/gpu -m gpu``. Written on a machine without one, and not run yet.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from sailrl.data.batch import Sample
from sailrl.demo import tiny_text
from sailrl.launch.engines import EngineSpec
from sailrl.rollout.engine import Request, Sampling
from sailrl.types import Completion
from tests.fakes.local_run import make_config, make_prompts
from tests.fakes.tiny_learner import make_learner

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

LAYERS, TOP_K = 2, 2


def test_the_engine_returns_the_experts_of_every_token_but_the_last_and_the_learner_replays_them(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "moe"
    tiny_text.build(folder, hidden_size=128, layers=LAYERS, experts=4)
    config = make_config(
        model={"path": str(folder), "dtype": "float32"},
        rollout={"max_response_tokens": 16, "engine": {"enforce_eager": True, "gpu_memory_utilization": 0.3}},
    )
    prompts = make_prompts(folder, 4, seed=1)
    engine = EngineSpec(
        config.model, config.data, config.rollout, weights=str(folder), images=str(tmp_path), seed=0, experts=True
    ).build()

    async def sampled() -> list[Sample]:
        await engine.start()
        requests = [Request(number, prompt.engine_ids) for number, prompt in enumerate(prompts)]
        sampling = Sampling(samples=2, temperature=1.0, max_tokens=16)
        done: dict[int, list[Completion]] = {}
        async for index, completions in engine.generate(requests, sampling, seed=None):
            done[index] = completions
        await engine.stop()
        return [Sample.of(prompts[index], one, 1.0) for index in sorted(done) for one in done[index]]

    samples = asyncio.run(sampled())
    for sample in samples:
        assert sample.experts is not None
        assert sample.experts.shape == (LAYERS, sample.length - 1, TOP_K)
    learner = make_learner(folder, routing_replay="r3", max_tokens_per_microbatch=1000)
    learner.set_episode(samples)  # checks every count
    learner.compute_old_logprobs()
    assert learner._old_logp is not None
    for old, sample in zip(learner._old_logp, samples, strict=True):
        assert torch.allclose(old, torch.from_numpy(sample.engine_logp), atol=1e-3)
