"""Which actor gets which GPU, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from sailrl.errors import ConfigError
from sailrl.jobs.placement import places
from tests.fakes.local_run import make_config


def _config(*, ranks: int, workers: int, width: int = 1, method: str = "nccl") -> Any:
    rollout = {"workers": workers, "engine": {"tensor_parallel": width}}
    return make_config(learner={"ranks": ranks}, rollout=rollout, sync={"method": method})


def test_without_gpus_actors_ask_for_none() -> None:
    where = places(_config(ranks=2, workers=3, method="disk"), 0)
    assert (where.workers, where.ranks) == ([{}] * 3, [{}] * 2)


def test_split_placement_gives_every_actor_gpus_of_its_own() -> None:
    where = places(_config(ranks=2, workers=3, width=2), 8)  # 2 + 3 x 2
    assert where.workers == [{"num_gpus": 2}] * 3
    assert where.ranks == [{"num_gpus": 1}] * 2


def test_a_cluster_that_is_too_small_is_refused_with_both_numbers() -> None:
    """Otherwise Ray would wait for GPUs until a deadline far away."""
    with pytest.raises(ConfigError, match=r"needs 8 GPUs \(2 for learner\.ranks and 3 x 2 .*the cluster has 7\."):
        places(_config(ranks=2, workers=3, width=2), 7)


def test_ipc_needs_one_gpu_per_pair() -> None:
    with pytest.raises(ConfigError, match=r"needs 4 GPUs \(4 for learner\.ranks, which share .* has 3\."):
        places(_config(ranks=4, workers=4, method="ipc"), 3)
