"""The proof that only a GPU machine can give: real vLLM engines take weights over NCCL and CUDA IPC.

Run with ``pytest tests/gpu -m gpu``. NCCL needs two GPUs, IPC one. Each test is one real run of the parts that
``rl.build`` builds: Ray actors, the learner on its GPU, vLLM, and the probe as judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sailrl.config.schema import RlvrConfig
from sailrl.data.processor import Processor
from sailrl.demo import tiny_text
from sailrl.errors import WeightSyncError
from sailrl.launch.engines import open_pool
from sailrl.launch.placement import actor_options, cluster, nodes
from sailrl.learner.group import LearnerGroup
from sailrl.rl.build import build_sync, engine_spec, learner_spec
from sailrl.rl.prepare import Prepared
from sailrl.rollout.engine import Request, Sampling
from sailrl.rollout.pool import RolloutPool
from sailrl.sync.probe import Probe
from tests.fakes.local_run import make_config, make_prompts
from tests.fakes.tiny_learner import make_samples

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Nats; looser in float32 than on CPU, since two sides of a GPU multiply with different kernels."""


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with cluster(tmp_path_factory.mktemp("run")):
        yield


@pytest.fixture(params=["dense", "tied", "experts"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kind = request.param
    experts = 4 * (kind == "experts")
    tiny_text.build(tmp_path / "m", hidden_size=128, layers=2, experts=experts, tie_embeddings=kind == "tied")
    return tmp_path / "m"


def _config(folder: Path, method: str, dtype: str) -> RlvrConfig:
    engine = {"enforce_eager": True, "gpu_memory_utilization": 0.3, "max_concurrent": 16}
    return make_config(
        model={"path": str(folder), "dtype": dtype},
        rollout={"max_response_tokens": 32, "engine": engine},
        learner={"max_tokens_per_microbatch": 256},
        sync={"method": method},
        placement="colocated" if method == "ipc" else "split",
    )


async def _learn_and_publish(config: RlvrConfig, folder: Path) -> list[float]:
    """Publishes twice with an update in between, while a request is in flight; returns what the probe measured."""
    where = actor_options(config, nodes())
    prepared = Prepared(str(folder), Processor(folder), folder, [], [])
    pool = open_pool(engine_spec(config, prepared), actor_options=where.workers, notify=print)
    learners = LearnerGroup(learner_spec(config, prepared, None), actor_options=where.ranks)
    sync: Any = build_sync(config, learners, pool)
    prompts = make_prompts(folder, 3, seed=1)
    probe = Probe(learners, pool, prompts[:2], dtype=config.model.dtype, tolerance=None)
    try:
        await pool.start()
        await sync.publish(0)
        measured = [(await probe.check(0)).max]
        learners.limit_first_update(100.0)  # the samples are made up, and no engine's
        samples = make_samples(8)
        learners.set_episode(samples, [range(len(samples))])
        for _ in range(3):
            learners.update(range(8), clip_low=0.2, clip_high=0.28)
        with pytest.raises(WeightSyncError):  # the negative control: the learner moved on, nothing was sent
            await probe.check(0)
        in_flight = asyncio.ensure_future(_completion(pool, prompts[2].engine_ids))
        await asyncio.sleep(0)
        await sync.publish(1)
        measured.append((await probe.check(1)).max)
        first = await in_flight
        assert first.finish_reason in ("stop", "length")  # kept, not aborted
        assert (await _completion(pool, prompts[2].engine_ids)).version == 1
        return measured
    finally:
        sync.close()
        await pool.stop()
        learners.stop()


async def _completion(pool: RolloutPool, ids: Any) -> Any:
    sampling = Sampling(samples=1, temperature=1.0, max_tokens=32)
    async for _, (completion,) in pool.generate([Request(0, ids)], sampling):
        return completion
    raise AssertionError


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["disk", "nccl", "ipc"])
def test_engines_compute_with_what_the_learner_sent(folder: Path, method: str, dtype: str) -> None:
    if method != "ipc" and torch.cuda.device_count() < 2:
        pytest.skip("split placement needs two GPUs")
    config = _config(folder, method, dtype)
    measured = asyncio.run(_learn_and_publish(config, folder))
    print(f"{method}, {dtype}: {measured} nats")
    assert max(measured) <= TOLERANCE[dtype]
