"""Starts or joins Ray, and assigns GPUs to actors."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sailrl.config.schema import RlvrConfig, SamplingConfig
from sailrl.config.sft import SftConfig
from sailrl.errors import ConfigError, RolloutError
from sailrl.launch.head import set_environment, started, watched
from sailrl.launch.shared_folder import answer, require_shared
from sailrl.plan.layout import Actors, layout

START_S = 90.0
"""Seconds that Ray may take to start, or a cluster to answer."""
RESERVE_S = 60
"""Seconds to wait for GPUs that are in use."""


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Connects to the Ray cluster in RAY_ADDRESS, or starts one on this machine, for the time of the block.

    Args:
        folder: the run folder.

    Raises:
        RolloutError: Ray does not start, or does not answer within ``START_S``.
        ConfigError: a machine of the cluster does not see the run folder.
    """
    set_environment()
    import ray

    named = os.environ.get("RAY_ADDRESS")

    def begin() -> None:
        # Without an address Ray would join a cluster that another user started on this machine.
        ray.init(named or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)

    with ExitStack() as running:
        try:
            running.enter_context(started(begin, START_S))
        except Exception as error:
            advice = (
                f"RAY_ADDRESS is {named!r} and must name a running cluster; unset it to start one on this machine"
                if named
                else "See the logs in /tmp/ray/session_latest/logs"
            )
            raise RolloutError(f"Ray does not start: {error}. {advice}.") from error
        running.callback(ray.shutdown)
        running.enter_context(watched(ray.get_runtime_context().gcs_address))
        if named:
            require_shared(folder, _ask_machines)
        yield


def _ask_machines(folder: str, name: str, reply: str) -> dict[str, bool]:
    """Calls ``shared_folder.answer`` with these on each machine that has GPUs, or on every one where none has any.

    Returns:
        Its results by the machine's address. Empty where this machine is the only one.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node for node in ray.nodes() if node["Alive"]]
    used = [node for node in alive if node["Resources"].get("GPU")] or alive
    if len(used) == 1 and used[0]["NodeID"] == ray.get_runtime_context().get_node_id():
        return {}
    task = ray.remote(answer)
    asked = {}
    for node in used:
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        address = f"{node['NodeManagerAddress']}-{node['NodeID'][:6]}"
        asked[address] = task.options(num_cpus=0, scheduling_strategy=where).remote(folder, name, reply + address)
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=START_S)
    answers = {}
    for address, waiting in asked.items():
        ready, _ = ray.wait([waiting], timeout=0)
        answers[address] = bool(ready) and ray.get(waiting)
    return answers


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the cluster that has GPUs."""

    address: str
    """Its IP address, as Ray knows it."""
    gpus: int


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """Ray's options for every actor of a run."""

    workers: list[dict[str, Any]]
    """One per rollout worker."""
    ranks: list[dict[str, Any]]
    """One per learner rank."""


def nodes() -> list[Node]:
    """The machines with GPUs, this one first. None if there is only this machine and torch cannot use its GPUs."""
    import ray
    import torch

    if not os.environ.get("RAY_ADDRESS") and not torch.cuda.is_available():
        return []
    here = ray.util.get_node_ip_address()
    found = [
        Node(node["NodeManagerAddress"], int(node["Resources"].get("GPU", 0))) for node in ray.nodes() if node["Alive"]
    ]
    return sorted((node for node in found if node.gpus), key=lambda node: (node.address != here, node.address))


def worker_options(rollout: SamplingConfig, nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """Ray's options for rollout workers of jobs without a learner: ``tensor_parallel`` GPUs each.

    Raises:
        ConfigError: the cluster is smaller than the configuration.
    """
    workers, width = rollout.workers, rollout.engine.tensor_parallel
    if not nodes:
        return [{}] * workers
    gpus = sum(node.gpus for node in nodes)
    if workers * width > gpus:
        raise ConfigError(
            f"{workers} rollout.workers with an engine.tensor_parallel of {width} need {workers * width} GPUs, but the "
            f"cluster has {gpus}. Lower one of the two, or add machines with `ray start` and name the cluster in "
            "RAY_ADDRESS."
        )
    return [{"num_gpus": width}] * workers


def actor_options(config: RlvrConfig | SftConfig, nodes: Sequence[Node]) -> ActorOptions:
    """Reserves the GPUs of ``config.layout`` in one Ray placement group: all of them, or the run does not start.

    Without GPUs nothing is reserved.

    Raises:
        ConfigError: the cluster is smaller than the configuration, or does not fit ``sync.method``.
        RolloutError: the GPUs are in use by other jobs.
    """
    if not nodes:
        actors = Actors.of(config)
        return ActorOptions([{}] * actors.engines, [{}] * actors.ranks)
    plan = layout(config, [node.gpus for node in nodes])
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    def bundle(node: int, gpus: int) -> dict[str, float]:
        return {"GPU": gpus, f"node:{nodes[node].address}": 0.001}

    ranks = [bundle(node, 1) for node in plan.ranks]
    engines = [] if plan.colocated else [bundle(node, plan.gpus_per_engine) for node in plan.engines]
    group = placement_group([*ranks, *engines])
    if not group.wait(RESERVE_S):
        raise RolloutError(
            f"the cluster has enough GPUs, but {plan.gpus()} of them were not free within {RESERVE_S} s. "
            "Wait for the other jobs on it to end, or use machines of your own."
        )

    def option(number: int, gpus: float) -> dict[str, Any]:
        return {"num_gpus": gpus, "scheduling_strategy": PlacementGroupSchedulingStrategy(group, number)}

    if plan.colocated:
        # Bundles of one GPU: Ray would put halves from different pairs on the same GPU.
        halves = [option(number, 0.5) for number in range(len(ranks))]
        return ActorOptions(halves, halves)
    return ActorOptions(
        [option(len(ranks) + number, plan.gpus_per_engine) for number in range(len(engines))],
        [option(number, 1) for number in range(len(ranks))],
    )
