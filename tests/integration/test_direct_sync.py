"""Weights go straight from real learner ranks to real rollout workers, through Ray and vLLM's trainer engine.

The engines receive from memory of the CPU instead of a GPU's (see tests/fakes/transfer.py); everything around is what a
GPU run uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sailrl.data.processor import Processor
from sailrl.demo import tiny_text
from sailrl.errors import RolloutError
from sailrl.launch.placement import Node, actor_options
from sailrl.learner.group import LearnerGroup
from sailrl.rl.build import learner_spec
from sailrl.rl.prepare import Prepared
from sailrl.rollout.pool import RolloutPool
from sailrl.sync.probe import Disagreement, Probe
from sailrl.sync.transfer import TransferSync
from tests.fakes.local_run import make_config, make_prompts
from tests.fakes.tiny_learner import make_samples
from tests.fakes.transfer import ReceivingEngine, open_shared

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray with two GPUs that are not there: it counts them all the same."""
    import ray

    env = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}}  # so that actors find the fakes
    ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False, runtime_env=env)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("direct") / "model"
    tiny_text.build(folder, hidden_size=32, layers=1)
    return folder


@dataclass
class Parts:
    learners: LearnerGroup
    pool: RolloutPool
    sync: TransferSync
    folder: Path


@asynccontextmanager
async def _parts(
    folder: Path, *, engines: int = 2, ranks: int = 1, timeout_s: float = 60, slow: str = ""
) -> AsyncIterator[Parts]:
    config = make_config(model={"path": str(folder)}, learner={"ranks": ranks, "threads": 1})
    pool = RolloutPool(
        partial(ReceivingEngine, str(folder), slow=slow),
        workers=engines,
        in_flight=4,
        timeout_s=60,
        start_timeout_s=120,
    )
    prepared = Prepared(str(folder), Processor(folder), folder, [], [])
    learners = LearnerGroup(learner_spec(config, prepared, None))
    sender = partial(open_shared, calls=pool.engine_calls(), engines=engines, timeout_s=timeout_s)
    try:
        await pool.start()
        yield Parts(learners, pool, TransferSync(learners, pool, sender, timeout_s=timeout_s), folder)
    finally:
        await pool.stop()
        learners.stop()


@pytest.mark.usefixtures("cluster")
def test_what_two_ranks_learned_reaches_two_engines(tiny_folder: Path) -> None:
    async def run() -> float:
        async with _parts(tiny_folder, ranks=2) as parts:
            prompts = make_prompts(tiny_folder, 2, seed=1)
            probe = Probe(parts.learners, parts.pool, prompts, dtype="float32", tolerance=1e-4)
            await parts.sync.publish(0)
            await probe.check(0)
            parts.learners.limit_first_update(100.0)  # the samples are made up, and no engine's
            samples = make_samples(4)
            parts.learners.set_episode(samples, [range(len(samples))])
            parts.learners.update(range(4), clip_low=0.2, clip_high=0.28)
            with pytest.raises(Disagreement):
                await probe.check(0)
            await parts.sync.publish(1)
            return (await probe.check(1)).max

    assert asyncio.run(run()) < 1e-5


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_late_is_named_across_processes(tiny_folder: Path) -> None:
    async def run() -> None:
        async with _parts(tiny_folder, engines=1, timeout_s=0.5, slow="start_weight_update") as parts:
            await parts.sync.publish(0)

    with pytest.raises(RolloutError, match=r"rollout worker 0 did not finish start_weight_update within 0\.5 s"):
        asyncio.run(run())


@pytest.mark.usefixtures("cluster")
def test_colocated_placement_puts_rank_and_engine_of_a_pair_on_one_gpu_and_pairs_on_different_ones() -> None:
    import ray

    @ray.remote(num_cpus=0)
    class Where:
        def gpu(self) -> int:
            (gpu,) = ray.get_gpu_ids()
            return int(gpu)

    config = make_config(learner={"ranks": 2}, rollout={"workers": 2}, placement="colocated")
    where = actor_options(config, [Node(ray.util.get_node_ip_address(), 2)])
    kind: Any = Where  # ray.remote adds methods that type checkers do not see
    actors = [kind.options(**place).remote() for place in where.workers + where.ranks]
    engines_and_ranks = ray.get([actor.gpu.remote() for actor in actors], timeout=60)
    for actor in actors:
        ray.kill(actor)
    assert engines_and_ranks[:2] == engines_and_ranks[2:]
    assert sorted(engines_and_ranks[:2]) == [0, 1]
