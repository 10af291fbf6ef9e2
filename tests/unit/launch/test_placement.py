"""Which actor gets which GPU, counted by hand. What Ray makes of it: tests/integration/test_direct_sync.py."""

from __future__ import annotations

from typing import Any

import pytest

from sailrl.config.sft import SftConfig
from sailrl.errors import ConfigError
from sailrl.launch.engines import engine_threads
from sailrl.launch.placement import Node, actor_options
from sailrl.plan.layout import layout
from tests.fakes.local_run import make_config

STAGE = {"kind": "sft", "model": {"path": "unused"}, "data": {"train": {"path": "unused"}}}


def _config(*, ranks: int, workers: int, width: int = 1, placement: str = "split", method: str = "nccl") -> Any:
    rollout = {"workers": workers, "engine": {"tensor_parallel": width}}
    return make_config(learner={"ranks": ranks}, rollout=rollout, placement=placement, sync={"method": method})


def test_without_gpus_actors_ask_for_none() -> None:
    where = actor_options(_config(ranks=2, workers=1), [])
    assert (where.workers, where.ranks) == ([{}], [{}] * 2)
    stage = SftConfig.model_validate(STAGE | {"learner": {"ranks": 3}})
    assert (actor_options(stage, []).workers, actor_options(stage, []).ranks) == ([], [{}] * 3)


def test_the_ranks_of_a_supervised_stage_fill_nodes_in_order() -> None:
    where = layout(SftConfig.model_validate(STAGE | {"learner": {"ranks": 6}}), [4, 4])
    assert (where.ranks, where.engines, where.gpus()) == ((0, 0, 0, 0, 1, 1), (), 6)


@pytest.mark.parametrize(
    ("cores", "workers", "threads"),
    [
        (16, 1, 15),  # one core is left to requests, decoding and scoring
        (16, 4, 3),  # 15 among 4
        (2, 2, 1),
        (1, 4, 1),  # fewer cores than workers: they take turns
    ],
)
def test_engines_without_gpus_share_the_cores_out(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, threads: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    assert engine_threads(workers) == threads


def test_split_placement_fills_nodes_with_ranks_and_then_with_engines() -> None:
    where = layout(_config(ranks=6, workers=5, width=2), [8, 8])
    assert where.ranks == (0, 0, 0, 0, 0, 0)
    assert where.engines == (0, 1, 1, 1, 1)  # 2 GPUs of node 0 are left for one engine
    assert where.gpus() == 16  # 6 + 5 x 2


def test_colocated_placement_puts_rank_and_engine_of_a_pair_on_one_node() -> None:
    where = layout(_config(ranks=6, workers=6, placement="colocated", method="ipc"), [4, 4])
    assert where.ranks == where.engines == (0, 0, 0, 0, 1, 1)
    assert where.gpus() == 6


def test_a_cluster_that_is_too_small_is_refused_with_both_numbers() -> None:
    """Otherwise Ray would wait for GPUs until a deadline far away."""
    with pytest.raises(ConfigError, match=r"needs 8 GPUs \(2 for learner\.ranks and 3 x 2 .*the cluster has 7\."):
        layout(_config(ranks=2, workers=3, width=2), [4, 3])


def test_colocated_placement_needs_one_gpu_per_pair() -> None:
    with pytest.raises(ConfigError, match=r"needs 4 GPUs \(4 for learner\.ranks, which share .* has 3\."):
        layout(_config(ranks=4, workers=4, placement="colocated"), [3])


def test_an_engine_does_not_straddle_two_nodes() -> None:
    # Beside the rank, 2 and 3 GPUs are left: room for one engine of 2 on each node.
    assert layout(_config(ranks=1, workers=2, width=2), [3, 3]).engines == (0, 1)
    # Beside three ranks on node 0, a single GPU is left on each of the two other nodes.
    with pytest.raises(ConfigError, match=r"hold only 0 of 1 rollout\.workers"):
        layout(_config(ranks=3, workers=1, width=2), [3, 1, 1])


def test_weights_in_shared_memory_do_not_reach_another_machine() -> None:
    config = _config(ranks=2, workers=2, method="disk")
    with pytest.raises(ConfigError, match=r"sync\.method is disk, .* 4 GPUs of 2 machines\. Write sync\.method: nccl"):
        actor_options(config, [Node("10.0.0.1", 2), Node("10.0.0.2", 2)])
