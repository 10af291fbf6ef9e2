"""Which actor runs on which node: arithmetic over numbers of GPUs. ``sailrl check`` prints it, ``launch.placement``
asks Ray for exactly this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sailrl.config.schema import RlvrConfig
from sailrl.config.sft import SftConfig
from sailrl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Actors:
    """How many there are in a job that trains."""

    ranks: int
    engines: int = 0
    gpus_per_engine: int = 1
    colocated: bool = False

    @classmethod
    def of(cls, config: RlvrConfig | SftConfig) -> Actors:
        """Those of a configuration; a supervised stage has no engines."""
        if isinstance(config, SftConfig):
            return cls(config.learner.ranks)
        rollout, colocated = config.rollout, config.placement == "colocated"
        return cls(config.learner.ranks, rollout.workers, rollout.engine.tensor_parallel, colocated)

    @property
    def gpus(self) -> int:
        """GPUs of all ranks and, where they have their own, engines."""
        return self.ranks + (0 if self.colocated else self.engines * self.gpus_per_engine)


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """The node of every actor, as a number from 0."""

    ranks: tuple[int, ...]
    """One per learner rank; a rank has one GPU."""
    engines: tuple[int, ...]
    """One per engine; an engine has ``gpus_per_engine`` GPUs of one node. Colocated, engine i is on rank i's GPU."""
    gpus_per_engine: int
    colocated: bool

    @property
    def nodes(self) -> list[int]:
        """The nodes in use."""
        return sorted({*self.ranks, *self.engines})

    def gpus(self) -> int:
        """GPUs in use."""
        return len(self.ranks) + (0 if self.colocated else len(self.engines) * self.gpus_per_engine)


def layout(config: RlvrConfig | SftConfig, gpus: Sequence[int]) -> NodeLayout:
    """Ranks fill the nodes in their order; then, in split placement, each engine takes its GPUs on the first node that
    has them left.

    Args:
        gpus: GPUs of each node. The first should be the node that the run is started on: rank 0 lands there.

    Raises:
        ConfigError: the cluster is smaller than the configuration, or spread too far for ``sync.method``.
    """
    plan = _layout(Actors.of(config), gpus)
    if isinstance(config, RlvrConfig) and config.sync.method == "disk" and len(plan.nodes) > 1:
        raise ConfigError(
            f"sync.method is disk, which hands weights over in the memory of one machine, but the run takes "
            f"{plan.gpus()} GPUs of {len(plan.nodes)} machines. Write sync.method: {config.direct_method}."
        )
    return plan


def _layout(actors: Actors, gpus: Sequence[int]) -> NodeLayout:
    ranks, engines, width = actors.ranks, actors.engines, actors.gpus_per_engine
    if actors.gpus > sum(gpus):
        sum_ = f"{ranks} for learner.ranks"
        if actors.colocated:
            sum_ += ", which share them with the engines"
        elif engines:
            sum_ += f" and {engines} x {width} for rollout.workers with engine.tensor_parallel"
        raise ConfigError(
            f"the run needs {actors.gpus} GPUs ({sum_}), but the cluster has {sum(gpus)}. Lower one of the numbers, or "
            "add machines with `ray start` and name the cluster in RAY_ADDRESS."
        )
    free = list(gpus)
    rank_nodes = tuple(_take(free, 1) for _ in range(ranks))
    if actors.colocated:
        return NodeLayout(rank_nodes, rank_nodes, 1, colocated=True)
    engine_nodes = tuple(_take(free, width) for _ in range(engines))
    if -1 in engine_nodes:
        raise ConfigError(
            f"rollout.engine.tensor_parallel is {width} and an engine's GPUs are on one node, but beside "
            f"{ranks} learner.ranks the nodes with {', '.join(map(str, gpus))} GPUs hold only "
            f"{engines - engine_nodes.count(-1)} of {engines} rollout.workers. "
            f"Write learner.ranks or rollout.workers so that whole nodes are filled."
        )
    return NodeLayout(rank_nodes, engine_nodes, width, colocated=False)


def _take(free: list[int], count: int) -> int:
    """The first node with ``count`` GPUs left, which are then taken; -1 when there is none."""
    for node, left in enumerate(free):
        if left >= count:
            free[node] -= count
            return node
    return -1
