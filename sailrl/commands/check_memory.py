"""The part of ``sailrl check`` about memory and placement."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sailrl.config.needs import config_folder, cuda_devices
from sailrl.config.schema import RlvrConfig
from sailrl.plan.layout import Layout
from sailrl.plan.memory import GIB
from sailrl.plan.memory_plan import PHASES, Cluster, GpuPlan, advice, gib, memory_plan, mib
from sailrl.report.safe_text import say

ASSUMED_GPUS, ASSUMED_GIB = 8, 80.0


@dataclass(frozen=True, slots=True)
class Machines:
    """What to plan for; None for what this machine has."""

    nodes: int | None = None
    gpus_per_node: int | None = None
    gpu_gib: float | None = None
    model_config: Path | None = None
    """Folder with the model's config.json."""


def print_memory(config: RlvrConfig, machines: Machines, console: Console, image_bytes: int) -> None:
    """Prints memory per GPU, machine and disk, who runs where, and what to change where it does not fit.

    It needs the model's config and torch; without one of them it says so in a line. A misfit is no error: the machine
    that checks need not be the one that runs.
    """
    folder = machines.model_config or config_folder(config.model)
    if folder is None:
        path = config.model.path
        why = "the run builds its model first" if path is None else f"the config of {path} is not on this machine"
        say(console, f"no memory plan: {why}. Give --model-config FOLDER, a folder with its config.json.")
        return
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        say(console, "no memory plan: it needs torch and transformers, pip install 'sailrl[train]'.")
        return
    from sailrl.learner.shape import model_shape

    shape = model_shape(folder, trust_remote_code=config.model.trust_remote_code)
    cluster, assumed = _cluster(config, machines)
    plan = memory_plan(config, shape, cluster)
    say(
        console,
        f"\n{shape.parameters / 1e9:.2f}B parameters on {cluster.nodes} x {cluster.gpus_per_node} GPUs of "
        f"{cluster.gpu_gib:g} GiB{assumed}; {config.placement} placement. GiB at most, not measured on GPUs:",
    )
    for gpu in plan.gpus:
        console.print(_table(gpu, cluster))
    concurrent = max(0, plan.kv_tokens) // plan.longest
    say(
        console,
        f"KV cache of an engine: {max(0, plan.kv_tokens):,} tokens, {concurrent} sequences at their longest "
        f"({plan.longest:,}); up to {config.rollout.engine.max_concurrent} shorter ones run together",
    )
    host = ", ".join(f"{part} {gib(size)}" for part, size in plan.host.items())
    say(console, f"memory of a machine: {gib(sum(plan.host.values()))} GiB ({host})")
    keep = config.checkpoint.keep
    say(
        console,
        f"disk: checkpoints {gib(plan.disk)} GiB ({keep} kept, one being written), images {mib(image_bytes)} MiB",
    )
    if plan.where is not None:
        for line in _places(plan.where):
            say(console, line)
    for fault in plan.faults():
        say(console, f"DOES NOT FIT: {fault}")
    if plan.faults():
        say(console, advice(config, shape, cluster))


def _cluster(config: RlvrConfig, machines: Machines) -> tuple[Cluster, str]:
    """The machines to plan for, and a remark when they are only assumed."""
    here = cuda_devices()
    gpus = machines.gpus_per_node or here or ASSUMED_GPUS
    memory = machines.gpu_gib or (_gpu_gib() if here else ASSUMED_GIB)
    ranks, rollout = config.learner.ranks, config.rollout
    engines = 0 if config.placement == "colocated" else rollout.workers * rollout.engine.tensor_parallel
    nodes = machines.nodes or (1 if here else -(-(ranks + engines) // gpus))
    given = here or (machines.nodes and machines.gpus_per_node and machines.gpu_gib)
    return Cluster(nodes, gpus, memory), "" if given else " (assumed, in part: see --nodes --gpus-per-node --gpu-gib)"


def _gpu_gib() -> float:
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory / GIB)


def _table(gpu: GpuPlan, cluster: Cluster) -> Table:
    """Parts by phase in GiB; the phase that needs most is bold."""
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column(gpu.what)
    for number, phase in enumerate(PHASES):
        table.add_column(phase, justify="right", style="bold" if number == gpu.worst else "")
    for part, sizes in gpu.parts.items():
        if any(sizes):
            table.add_row(part, *(gib(size) if size else "-" for size in sizes))
    table.add_row(f"of {cluster.gpu_gib:g}", *(gib(gpu.total(phase)) for phase in range(len(PHASES))))
    return table


def _places(where: Layout) -> list[str]:
    """One line per node."""
    lines = []
    for node in where.nodes:
        ranks = [number for number, on in enumerate(where.ranks) if on == node]
        engines = [number for number, on in enumerate(where.engines) if on == node]
        if where.colocated:
            text = f"learner ranks {_ranges(ranks)}, each on one GPU with the engine of the same number"
        else:
            width = where.gpus_per_engine
            parts = [f"learner ranks {_ranges(ranks)} on a GPU each"] if ranks else []
            parts += [f"engines {_ranges(engines)} on {width} GPU{'s' * (width > 1)} each"] if engines else []
            text = ", ".join(parts)
        lines.append(f"node {node}: {text}")
    return lines


def _ranges(numbers: Sequence[int]) -> str:
    """``0-7`` for eight numbers in a row."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
