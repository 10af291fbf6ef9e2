"""Starts or joins Ray, and says which actor gets which GPU."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sailrl.config.schema import RlvrConfig, SamplingConfig
from sailrl.errors import ConfigError, RolloutError


@contextmanager
def cluster() -> Iterator[None]:
    """A Ray cluster for the time of a run: the one named by RAY_ADDRESS, or one of our own on this machine."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        # Without an address Ray would join whatever cluster somebody else started on this machine.
        address = os.environ.get("RAY_ADDRESS") or "local"
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise RolloutError(
            f"Ray does not start: {error}. With RAY_ADDRESS set it must name a running cluster; "
            "without, look at /tmp/ray/session_latest/logs."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True, slots=True)
class Places:
    """Ray's options for every actor of a run."""

    workers: list[dict[str, Any]]
    """One per rollout worker."""
    ranks: list[dict[str, Any]]
    """One per learner rank."""


def gpus() -> int:
    """GPUs of the cluster; 0 where this machine is all there is and its torch cannot use any."""
    import ray
    import torch

    if not os.environ.get("RAY_ADDRESS") and not torch.cuda.is_available():
        return 0
    return int(ray.cluster_resources().get("GPU", 0))


def worker_places(rollout: SamplingConfig, gpus: int) -> list[dict[str, Any]]:
    """Ray's options for rollout workers that have all GPUs to themselves: ``tensor_parallel`` GPUs each.

    Raises:
        ConfigError: the cluster is smaller than the configuration.
    """
    workers, width = rollout.workers, rollout.engine.tensor_parallel
    if gpus and workers * width > gpus:
        raise ConfigError(
            f"{workers} rollout.workers with an engine.tensor_parallel of {width} need {workers * width} GPUs, but the "
            f"cluster has {gpus}. Lower one of the two, or add machines with `ray start` and name the cluster in "
            "RAY_ADDRESS."
        )
    return [{"num_gpus": width} if gpus else {} for _ in range(workers)]


def places(config: RlvrConfig, gpus: int) -> Places:
    """Split placement: an engine takes ``tensor_parallel`` GPUs of its own and a learner rank one. With ``sync.method:
    ipc``, which works inside a GPU, rank i and engine i share GPU i. Without GPUs nothing is reserved.

    Raises:
        ConfigError: the cluster is smaller than the configuration.
    """
    workers, ranks, width = config.rollout.workers, config.learner.ranks, config.rollout.engine.tensor_parallel
    if not gpus:
        return Places([{}] * workers, [{}] * ranks)
    shared = config.sync.method == "ipc"
    needed = ranks if shared else workers * width + ranks
    if needed > gpus:
        sum_ = (
            f"{ranks} for learner.ranks, which share them with the engines"
            if shared
            else f"{ranks} for learner.ranks and {workers} x {width} for rollout.workers with engine.tensor_parallel"
        )
        raise ConfigError(
            f"the run needs {needed} GPUs ({sum_}), but the cluster has {gpus}. Lower one of the numbers, or add "
            "machines with `ray start` and name the cluster in RAY_ADDRESS."
        )
    if not shared:
        return Places([{"num_gpus": width}] * workers, [{"num_gpus": 1}] * ranks)
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    # A group of bundles, since Ray would put two halves on one GPU wherever they fit.
    group = placement_group([{"GPU": 1}] * ranks)
    halves = [
        {"num_gpus": 0.5, "scheduling_strategy": PlacementGroupSchedulingStrategy(group, bundle)}
        for bundle in range(ranks)
    ]
    return Places(halves, halves)
