"""The memory of a run on a machine without a GPU: resident memory of its processes, phase by phase.

All of it is one process tree: the command, Ray, the ranks, the engines, the rewards. A rank keeps what its largest
phase has taken: memory goes back to the system in steps of a gigabyte (``sailrl.cli``), so it is counted in every
phase. Sizes of processes are measured ones, on Linux with torch 2.13 and vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sailrl.config.schema import RlvrConfig
from sailrl.config.sft import SftConfig
from sailrl.plan import memory as m
from sailrl.plan.memory import GIB, ModelShape
from sailrl.plan.memory_plan import T, gib, learner_parts, stage_changes, stage_parts, with_values
from sailrl.sync.disk import VERSIONS

PHASES = ("learning", "publishing", "generating")
COMMAND, RAY, RANK, ENGINE, REWARD = (int(size * GIB) for size in (0.43, 0.35, 0.38, 0.5, 0.06))
"""Processes with their libraries and without a model."""


@dataclass(frozen=True, slots=True)
class CpuPlan:
    """The plan of memory on a CPU."""

    parts: Mapping[str, tuple[int, ...]]
    """Bytes of each part in each phase."""
    kv_tokens: int = 0
    """Tokens that the cache of one engine holds; 0 where there is none."""
    longest: int = 0
    """Tokens of its longest sequence."""
    phases: tuple[str, ...] = PHASES

    def total(self, phase: int) -> int:
        """Bytes in a phase."""
        return sum(sizes[phase] for sizes in self.parts.values())

    @property
    def peak(self) -> int:
        """Bytes in the phase that needs most."""
        return max(self.total(phase) for phase in range(len(self.phases)))

    def faults(self, memory: int) -> list[str]:
        """What does not fit into so many bytes, one sentence each."""
        found = []
        if self.peak > memory:
            largest = max(self.parts, key=lambda part: max(self.parts[part]))
            found.append(
                f"the run needs {gib(self.peak)} GiB and this machine has {gib(memory)}; the largest part is "
                f"{largest} with {gib(max(self.parts[largest]))}."
            )
        if self.kv_tokens < self.longest:
            found.append(
                f"the cache of an engine holds {self.kv_tokens:,} tokens, fewer than the {self.longest:,} of one "
                "sequence at its longest: raise rollout.engine.kv_cache_gib."
            )
        return found


def cpu_plan(config: RlvrConfig | SftConfig, shape: ModelShape) -> CpuPlan:
    """Adds everything up for one configuration on one machine."""
    if isinstance(config, SftConfig):
        return _stage_plan(config, shape)
    ranks, engines = config.learner.ranks, config.rollout.workers
    learner = learner_parts(config, shape, "cpu")
    phases = zip(*learner.values(), strict=True)
    rank = RANK + max(sum(sizes) for sizes in phases)
    cache = int(config.rollout.engine.kv_cache_gib * GIB)
    engine = ENGINE + 2 * m.engine_weights(shape, config) + cache + m.engine_work(shape, config, "cpu")
    version = m.published(shape, config)
    copied = 0 if config.model.dtype == "float32" and ranks == 1 else version  # that rank 0 writes
    return CpuPlan(
        parts={
            "the command, Ray, rewards": (COMMAND + RAY + config.rewards.workers * REWARD,) * 3,
            f"learner ({ranks})": (ranks * rank,) * 3,
            f"engine ({engines})": (engines * engine,) * 3,
            "weights in shared memory": (VERSIONS * version, VERSIONS * version + copied, VERSIONS * version),
        },
        kv_tokens=cache // m.cache_per_token(shape, config),
        longest=config.longest,
    )


def _stage_plan(config: SftConfig, shape: ModelShape) -> CpuPlan:
    ranks = config.learner.ranks
    needed = max(sum(sizes) for sizes in zip(*stage_parts(config, shape, "cpu").values(), strict=True))
    if not config.learner.distributed:
        return CpuPlan({"the command, which learns": (COMMAND + needed,)}, phases=PHASES[:1])
    parts = {"the command, Ray": (COMMAND + RAY,), f"learner ({ranks})": (ranks * (RANK + needed),)}
    return CpuPlan(parts, phases=PHASES[:1])


def cpu_advice(config: T, shape: ModelShape, memory: int) -> str:
    """One change that makes the plan fit, each tried in turn."""
    for text, other in stage_changes(config) if isinstance(config, SftConfig) else _changes(config):
        if not cpu_plan(other, shape).faults(memory):
            return f"Write {text}."
    return "No single setting helps: take a smaller model or shorter sequences, or GPUs."


def _changes(config: RlvrConfig) -> Iterator[tuple[str, RlvrConfig]]:
    learner, engine, longest = config.learner, config.rollout.engine, config.longest
    if engine.kv_cache_gib > 1:
        one = engine.model_copy(update={"kv_cache_gib": 1.0})
        yield "rollout.engine.kv_cache_gib: 1", with_values(config, rollout={"engine": one})
    if not learner.activation_checkpointing:
        yield "learner.activation_checkpointing: true", with_values(config, learner={"activation_checkpointing": True})
    if learner.max_tokens_per_microbatch > longest:
        text = f"learner.max_tokens_per_microbatch: {longest}"
        yield text, with_values(config, learner={"max_tokens_per_microbatch": longest})
    both = {"activation_checkpointing": True, "max_tokens_per_microbatch": longest}
    text = f"learner.activation_checkpointing: true and learner.max_tokens_per_microbatch: {longest}"
    yield text, with_values(config, learner=both)
