"""The memory of each GPU, machine and disk, phase by phase; whether it fits, and what to change otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from sailrl.config.base import Section
from sailrl.config.schema import RlvrConfig
from sailrl.config.sft import SftConfig
from sailrl.errors import ConfigError
from sailrl.plan import memory as m
from sailrl.plan.layout import Actors, NodeLayout, layout
from sailrl.plan.memory import GIB, RUNTIME, ModelShape
from sailrl.sync.disk import VERSIONS

T = TypeVar("T", bound=RlvrConfig | SftConfig)
"""The configuration of a job that trains."""
S = TypeVar("S", bound=Section)
PHASES = ("loss", "backward", "step", "sync", "rollout")
"""Moments of an update at which memory peaks (the head at work; a layer's backward pass; the optimizer), weights on
their way to the engines, and generation."""
SUPERVISED = PHASES[:3]
"""Those of a supervised stage."""
PROCESS = 2 * GIB
"""Host memory of a process with torch and its libraries. Assumed."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Equal machines."""

    nodes: int = 1
    gpus_per_node: int = 8
    gpu_gib: float = 80.0


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """One kind of GPU in the run."""

    what: str
    parts: Mapping[str, tuple[int, ...]]
    """Bytes of each part in each phase."""
    phases: tuple[str, ...] = PHASES

    def total(self, phase: int) -> int:
        """Bytes in a phase."""
        return sum(sizes[phase] for sizes in self.parts.values())

    @property
    def worst(self) -> int:
        """The phase that needs most."""
        return max(range(len(self.phases)), key=self.total)

    @property
    def peak(self) -> int:
        """Bytes in it."""
        return self.total(self.worst)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The plan of memory on GPUs."""

    gpus: tuple[GpuPlan, ...]
    cluster: Cluster
    where: NodeLayout | None
    """None when the run does not fit on the cluster's machines; ``why`` has the reason."""
    why: str
    host: Mapping[str, int]
    """Bytes on the fullest machine, by part."""
    kv_tokens: int = 0
    """Tokens that the cache of one engine holds; 0 where there is none."""
    longest: int = 0
    """Tokens of its longest sequence."""

    def faults(self) -> list[str]:
        """What does not fit, one sentence each."""
        found = [self.why] if self.why else []
        limit = self.cluster.gpu_gib * GIB
        for gpu in self.gpus:
            if gpu.peak > limit:
                largest = max(gpu.parts, key=lambda part: gpu.parts[part][gpu.worst])
                found.append(
                    f"{gpu.what} needs {gib(gpu.peak)} GiB in phase {gpu.phases[gpu.worst]} and has "
                    f"{self.cluster.gpu_gib:g}, {gib(int(gpu.peak - limit))} too few; the largest part is "
                    f"{largest} with {gib(gpu.parts[largest][gpu.worst])}."
                )
        if self.kv_tokens < self.longest:
            found.append(
                f"the engine's cache holds {max(0, self.kv_tokens):,} tokens, fewer than the {self.longest:,} of one "
                "sequence at its longest."
            )
        return found


def memory_plan(config: RlvrConfig | SftConfig, shape: ModelShape, cluster: Cluster) -> MemoryPlan:
    """Adds everything up for one configuration on one cluster."""
    where, why = None, ""
    try:
        where = layout(config, [cluster.gpus_per_node] * cluster.nodes)
    except ConfigError as error:
        why = str(error)
    if isinstance(config, SftConfig):
        parts = {**stage_parts(config, shape), "CUDA": (RUNTIME,) * len(SUPERVISED)}
        host = _ranks_host(m.SupervisedStage.of(config), shape, where)
        if config.training.lr_search is not None:
            host["copy of the rate's search"] = 12 * shape.trainable(config.model)
        return MemoryPlan((GpuPlan("a GPU of a learner rank", parts, SUPERVISED),), cluster, where, why, host)
    share = int(config.rollout.engine.gpu_memory_utilization * cluster.gpu_gib * GIB)
    cache = share - m.engine_weights(shape, config) - m.engine_work(shape, config)
    learner, engine = learner_parts(config, shape), _engine(config, shape, max(0, cache))
    runtime = (RUNTIME,) * len(PHASES)
    if config.placement == "colocated":
        both = {**learner, **engine, "CUDA, two processes": tuple(2 * size for size in runtime)}
        gpus: tuple[GpuPlan, ...] = (GpuPlan("a GPU of rank and engine", both),)
    else:
        gpus = (
            GpuPlan("a GPU of a learner rank", {**learner, "CUDA": runtime}),
            GpuPlan("a GPU of an engine", _awake(engine)),
        )
    return MemoryPlan(
        gpus,
        cluster,
        where,
        why,
        _host(config, shape, where),
        kv_tokens=cache // m.cache_per_token(shape, config),
        longest=config.longest,
    )


def advice(config: T, shape: ModelShape, cluster: Cluster) -> str:
    """One change that makes the plan fit, each tried in turn: as many nodes as the configuration is for, settings, more
    ranks here, a slower step, more nodes."""
    needed = -(-Actors.of(config).gpus // cluster.gpus_per_node)
    for nodes in range(cluster.nodes + 1, needed + 2):
        if not memory_plan(config, shape, replace(cluster, nodes=nodes)).faults():
            return f"As it is written, it fits on {nodes} nodes."
    changes = stage_changes(config) if isinstance(config, SftConfig) else _changes(config)
    for text, other in changes:
        if not memory_plan(other, shape, cluster).faults():
            return f"Write {text}."
    if (more := _more_ranks(config, shape, cluster, (1,))) is not None:
        return more
    if not memory_plan(with_values(config, learner={"offload": "optimizer"}), shape, cluster).faults():
        return "Write learner.offload: optimizer."
    return _more_ranks(config, shape, cluster, (2, 4, 8)) or (
        "No single setting helps, and neither do more GPUs: take a smaller model or shorter sequences."
    )


def _more_ranks(config: T, shape: ModelShape, cluster: Cluster, times: tuple[int, ...]) -> str | None:
    """The fewest ranks that fit on so many ``times`` the nodes."""
    for _ in range(6):
        config = with_values(config, learner={"ranks": 2 * config.learner.ranks})
        if isinstance(config, RlvrConfig) and config.placement == "colocated":
            config = with_values(config, rollout={"workers": config.learner.ranks})
        for nodes in (factor * cluster.nodes for factor in times):
            larger = replace(cluster, nodes=nodes)
            if not memory_plan(config, shape, larger).faults():
                return f"No single setting helps; learner.ranks: {config.learner.ranks} on {nodes} node(s) fits."
    return None


def _changes(config: RlvrConfig) -> Iterator[tuple[str, RlvrConfig]]:
    """Settings that save memory, the cheapest first."""
    learner, engine = config.learner, config.rollout.engine
    if config.sync.method == "disk":
        direct = config.direct_method
        yield f"sync.method: {direct}", with_values(config, sync={"method": direct})
    if not learner.activation_checkpointing:
        yield "learner.activation_checkpointing: true", with_values(config, learner={"activation_checkpointing": True})
    longest = config.longest
    if learner.max_tokens_per_microbatch > longest:
        text = f"learner.max_tokens_per_microbatch: {longest}"
        yield text, with_values(config, learner={"max_tokens_per_microbatch": longest})
    for percent in range(int(100 * engine.gpu_memory_utilization) - 5, 25, -5):
        changed = engine.model_copy(update={"gpu_memory_utilization": percent / 100})
        text = f"rollout.engine.gpu_memory_utilization: {percent / 100:g}"
        yield text, with_values(config, rollout={"engine": changed})
    if config.placement == "split":
        shared = engine.model_copy(update={"gpu_memory_utilization": 0.6, "tensor_parallel": 1})
        ranks = learner.ranks + config.rollout.workers * engine.tensor_parallel
        changed_all = config.model_copy(update={"placement": "colocated"})
        changed_all = with_values(changed_all, learner={"ranks": ranks}, rollout={"workers": ranks, "engine": shared})
        yield (
            f"placement: colocated, learner.ranks: {ranks}, rollout.workers: {ranks}, "
            "rollout.engine: {tensor_parallel: 1, gpu_memory_utilization: 0.6}, and sync.method: disk or ipc",
            changed_all,
        )


def stage_changes(config: SftConfig) -> Iterator[tuple[str, SftConfig]]:
    """Settings of a supervised stage that save memory, the cheapest first."""
    training, longest = config.training, config.data.max_tokens
    if training.max_tokens_per_microbatch > longest:
        text = f"training.max_tokens_per_microbatch: {longest}"
        yield text, with_values(config, training={"max_tokens_per_microbatch": longest})
    both = {"activation_checkpointing": True, "max_tokens_per_microbatch": longest}
    if not training.activation_checkpointing:
        text = "training.activation_checkpointing: true"
        yield text, with_values(config, training={"activation_checkpointing": True})
        yield f"{text} and training.max_tokens_per_microbatch: {longest}", with_values(config, training=both)


def with_values(config: S, **sections: Mapping[str, object]) -> S:
    """A copy of a configuration with other values in some of its sections."""
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=dict(fields)) for name, fields in sections.items()}
    )


def learner_parts(config: RlvrConfig, shape: ModelShape, device: m.Device = "cuda") -> dict[str, tuple[int, ...]]:
    """Bytes of a learner rank by part and phase, without what the process itself takes."""
    return {
        **_update_parts(config, shape, device),
        "probe": (0, 0, 0, 0, m.probe_work(shape, config, device)),
        "weight transfer": (0, 0, 0, m.sync_buffers(shape, config), 0),
    }


def stage_parts(config: SftConfig, shape: ModelShape, device: m.Device = "cuda") -> dict[str, tuple[int, ...]]:
    """The same of a supervised stage, in the phases that it has."""
    parts = _update_parts(m.SupervisedStage.of(config), shape, device)
    return {name: sizes[: len(SUPERVISED)] for name, sizes in parts.items()}


def _update_parts(config: m.Trained, shape: ModelShape, device: m.Device) -> dict[str, tuple[int, ...]]:
    weights, grads, adam, scratch = _resting(config, shape, device)
    if device == "cuda" and config.learner.offload == "optimizer":
        weights = grads = adam = scratch = 0
    copies, kept, picture = m.gathered(shape, config), m.kept_activations(shape, config), m.pixels(shape, config)
    return {
        "weights (float32)": (weights,) * 5,
        "optimizer": (adam, adam, adam + scratch, adam, adam),
        "gradients": (grads, grads, grads, 0, 0),
        "compute copies": (copies, copies, 0, 0, 0),
        "activations": (kept, kept + m.layer_work(shape, config), 0, 0, 0),
        "head": (m.head_work(shape, config, device), 0, 0, 0, 0),
        "pixels": (picture, picture, 0, 0, 0),
    }


def _resting(config: m.Trained, shape: ModelShape, device: m.Device) -> tuple[int, int, int, int]:
    """A rank's master weights, gradients, moments, and the memory of the step itself."""
    weights = m.master_weights(shape, m.sharing(config.learner))
    if isinstance(config, RlvrConfig) and config.algorithm.kl_coef and not config.model.lora:
        weights *= 2  # the reference is a second copy
    return weights, m.gradients(shape, config), m.moments(shape, config), m.step_scratch(shape, config, device)


def _engine(config: RlvrConfig, shape: ModelShape, cache: int) -> dict[str, tuple[int, ...]]:
    """An engine's share of one GPU while it takes turns with a learner rank."""
    weights, work = m.engine_weights(shape, config), m.engine_work(shape, config)
    return {
        "engine's weights": (0, 0, 0, weights, weights),
        "engine's activations": (0, 0, 0, 0, work),
        "KV cache": (0, 0, 0, 0, cache),
    }


def _awake(engine: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """An engine that never sleeps; CUDA's own part lies in its share of the GPU."""
    return {name: (sizes[-1],) * len(sizes) for name, sizes in engine.items()}


def _ranks_host(config: m.Trained, shape: ModelShape, where: NodeLayout | None) -> dict[str, int]:
    """Memory that ranks take of the machine with most of them."""
    ranks = max(Counter(where.ranks).values()) if where else config.learner.ranks
    parts = {"processes": PROCESS * ranks, "model while rank 0 loads it": 4 * shape.parameters}
    if config.learner.offload == "optimizer":
        parts["weights and optimizer"] = ranks * sum(_resting(config, shape, "cpu"))
    if shape.vision is not None:
        parts["processed images"] = ranks * GIB
        parts["decoded images"] = ranks * GIB
    return parts


def _host(config: RlvrConfig, shape: ModelShape, where: NodeLayout | None) -> dict[str, int]:
    """Machine memory on the node with most actors."""
    engines = max(Counter(where.engines).values(), default=0) if where else config.rollout.workers
    parts = _ranks_host(config, shape, where)
    parts["processes"] += PROCESS * engines * (1 + config.rollout.engine.tensor_parallel)
    if shape.vision is not None:
        parts["decoded images"] += engines * GIB
    if config.placement == "colocated":
        parts["weights of sleeping engines"] = m.engine_weights(shape, config) * engines
    if config.sync.method == "disk":
        parts["versions in shared memory"] = VERSIONS * m.published(shape, config)
        parts["the version that rank 0 writes"] = m.published(shape, config)
    return parts


def mib(size: int) -> str:
    """Bytes as text in MiB: images of a small data set are far below a GiB."""
    return f"{size / (1 << 20):,.1f}"


def gib(size: int) -> str:
    """Bytes as text in GiB."""
    return f"{size / GIB:.1f}"
