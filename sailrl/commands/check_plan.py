"""The part of ``sailrl check`` about memory, time and placement."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sailrl.config.needs import config_folder, cuda_devices, local_model
from sailrl.config.schema import RlvrConfig
from sailrl.config.sft import SftConfig
from sailrl.plan.cpu_plan import cpu_advice, cpu_plan
from sailrl.plan.known import known_shape
from sailrl.plan.layout import Actors, NodeLayout
from sailrl.plan.memory import GIB, ModelShape, checkpoint_disk
from sailrl.plan.memory_plan import Cluster, advice, gib, memory_plan, mib
from sailrl.plan.time_plan import Speed, TimePlan, time_plan
from sailrl.report.safe_text import say
from sailrl.report.shown import counted, few

ASSUMED_GPUS, ASSUMED_GIB = 8, 80.0


@dataclass(frozen=True, slots=True)
class Machines:
    """What to plan for; None for what this machine has."""

    nodes: int | None = None
    gpus_per_node: int | None = None
    gpu_gib: float | None = None
    model_config: Path | None = None
    """Folder with the model's config.json."""


def print_plan(
    config: RlvrConfig | SftConfig,
    machines: Machines,
    console: Console,
    *,
    image_bytes: int = 0,
    built: Path | None = None,
) -> bool:
    """Prints memory by phase, disk, time, who runs where, and what to change where it does not fit: for the GPUs of
    this machine or of others, or for this machine's CPU. What is too large for a CPU is planned for GPUs, too.

    A misfit is no error: the machine that checks need not be the one that runs.

    Args:
        built: where a model that the run builds is, once it is there.

    Returns:
        Whether the plan is for this machine's CPU.
    """
    cpu = _on_cpu(machines)
    found = _shape(config, machines, built)
    if isinstance(found, str):
        say(console, f"no plan of memory and time: {found}")
        return cpu
    shape, source = found
    size = f"{shape.parameters / 1e9:.2f}B" if shape.parameters >= 1e8 else f"{shape.parameters / 1e6:.2f}M"
    say(console, f"\n{size} parameters ({source})")
    if cpu:
        cpu = _print_cpu(config, shape, console) or machines.gpus_per_node == 0
    if not cpu:
        _print_gpus(config, shape, machines, console)
    keep, disk = config.checkpoint.keep, gib(checkpoint_disk(shape, config))
    say(console, f"disk: checkpoints {disk} GiB ({keep} kept, one being written), images {mib(image_bytes)} MiB")
    return cpu


def _on_cpu(machines: Machines) -> bool:
    """Whether the plan is for a machine without a GPU: asked for, or this one, where no other is described."""
    if machines.gpus_per_node is not None:
        return machines.gpus_per_node == 0
    return machines.nodes is None and machines.gpu_gib is None and not cuda_devices()


def _shape(config: RlvrConfig | SftConfig, machines: Machines, built: Path | None) -> tuple[ModelShape, str] | str:
    """The model's shape and where it is from, or why there is none."""
    path = config.model.path
    folder = machines.model_config or config_folder(config.model) or built
    if folder is None and path is not None and (known := known_shape(path)) is not None:
        return known[1], f"{known[1].name}, from sailrl's table of known models: its config is not on this machine"
    if folder is None:
        if path is None:
            return "the run builds its model first. Check again when it has begun, or give --model-config FOLDER."
        if local_model(config.model) is not None:
            return f"{path} has no config.json yet. Check again when it has, or give --model-config FOLDER of its like."
        return (
            f"the config of {path} is not on this machine, and it is not in sailrl's table of known models. Write:\n"
            f"  hf download {path} config.json --local-dir model_config\n"
            "  and check again with --model-config model_config"
        )
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        return "it needs torch and transformers, pip install 'sailrl[train]'."
    from sailrl.learner.shape import model_shape

    return model_shape(folder, trust_remote_code=config.model.trust_remote_code), f"config of {folder}"


def _print_cpu(config: RlvrConfig | SftConfig, shape: ModelShape, console: Console) -> bool:
    """The plan for this machine without its GPUs; whether it fits."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    plan = cpu_plan(config, shape)
    say(console, f"on this machine, {cores} CPU cores and {gib(memory)} GiB (others: --gpus-per-node). GiB resident:")
    totals = [plan.total(phase) for phase in range(len(plan.phases))]
    console.print(_table("processes", plan.phases, plan.parts, totals, "all"))
    faults = plan.faults(memory)
    for fault in faults:
        say(console, f"DOES NOT FIT: {fault}")
    if faults:
        say(console, cpu_advice(config, shape, memory))
        return False
    if isinstance(config, RlvrConfig):
        _print_room(config, plan.kv_tokens, console)
        speed = Speed.of(config, cores)
        _print_time(time_plan(config, shape, speed, kv_tokens=plan.kv_tokens, machines=1), 0, console)
    return True


def _print_gpus(config: RlvrConfig | SftConfig, shape: ModelShape, machines: Machines, console: Console) -> None:
    cluster, assumed = _cluster(config, machines)
    plan = memory_plan(config, shape, cluster)
    placement = f"; {config.placement} placement" if isinstance(config, RlvrConfig) else ""
    say(
        console,
        f"on {cluster.nodes} x {cluster.gpus_per_node} GPUs of {cluster.gpu_gib:g} GiB{assumed}{placement}. GiB at "
        "most, not measured on GPUs:",
    )
    for gpu in plan.gpus:
        totals = [gpu.total(phase) for phase in range(len(gpu.phases))]
        console.print(_table(gpu.what, gpu.phases, gpu.parts, totals, f"of {cluster.gpu_gib:g}"))
    if isinstance(config, RlvrConfig):
        _print_room(config, max(0, plan.kv_tokens), console)
    host = ", ".join(f"{part} {gib(size)}" for part, size in plan.host.items())
    say(console, f"memory of a machine: {gib(sum(plan.host.values()))} GiB ({host})")
    if isinstance(config, RlvrConfig) and plan.kv_tokens >= plan.longest:
        estimate = time_plan(config, shape, Speed.of(config), kv_tokens=plan.kv_tokens)
        _print_time(estimate, Actors.of(config).gpus, console)
    if plan.where is not None:
        for line in _places(plan.where):
            say(console, line)
    for fault in plan.faults():
        say(console, f"DOES NOT FIT: {fault}")
    if plan.faults():
        say(console, advice(config, shape, cluster))


def _print_room(config: RlvrConfig, kv_tokens: int, console: Console) -> None:
    """Prints how many sequences an engine can compute at once, and how many the configuration asks for."""
    rollout = config.rollout
    asked = min(-(-config.batch.rollouts_per_episode // rollout.workers), rollout.engine.max_concurrent)
    room = kv_tokens // config.longest
    fewer = f", where it is asked for {asked}; more where they are shorter" if room < asked else ""
    say(
        console,
        f"KV cache of an engine: {kv_tokens:,} tokens, {counted(room, 'sequence')} at their longest "
        f"({config.longest:,}) at once{fewer}; a step computes {rollout.engine.max_num_batched_tokens:,} tokens",
    )


def _print_time(plan: TimePlan, gpus: int, console: Console) -> None:
    """Prints the estimate with its assumptions; GPU-hours only where there are GPUs."""
    hours, speed = plan.episode_s / 3600, plan.speed
    gpu_hours = [f", {few(gpus * count * hours)} GPU-hours" if gpus else "" for count in (1, plan.episodes)]
    say(
        console,
        f"time, an estimate: {few(hours)} hours per episode{gpu_hours[0]} (generation {few(plan.generate_s / 3600)}, "
        f"learning {few(plan.learn_s / 3600)}, {'together' if plan.together else 'one after the other'}); all "
        f"{plan.episodes:,} episodes {few(plan.episodes * hours)} hours{gpu_hours[1]}\n"
        f"  assumed, not measured: prompts of {plan.prompt_tokens:,} tokens; responses of {plan.response_tokens:,}, "
        f"half of their limit; {plan.sampled_per_kept:g} groups sampled for one that is kept; {speed.name} with "
        f"{speed.operations / 1e12:.3g} TFLOP/s and an MFU of {100 * speed.compute_share:.0f}% in learning, and "
        f"{speed.bandwidth / 1e9:,.0f} GB/s used to {100 * speed.memory_share:.0f}% in generation, which gives "
        f"{few(plan.tokens_per_s)} tokens/s an engine\n"
        "  not counted: publishing, evaluation, checkpoints, waiting for the longest response, the vision tower",
    )


def _cluster(config: RlvrConfig | SftConfig, machines: Machines) -> tuple[Cluster, str]:
    """The machines to plan for, and a remark when they are only assumed."""
    here = cuda_devices()
    gpus = machines.gpus_per_node or here or ASSUMED_GPUS
    memory = machines.gpu_gib or (_gpu_gib() if here else ASSUMED_GIB)
    nodes = machines.nodes or (1 if here else -(-Actors.of(config).gpus // gpus))
    given = here or (machines.nodes and machines.gpus_per_node and machines.gpu_gib)
    return Cluster(nodes, gpus, memory), "" if given else " (assumed, in part: see --nodes --gpus-per-node --gpu-gib)"


def _gpu_gib() -> float:
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory / GIB)


def _table(
    what: str, phases: Sequence[str], parts: Mapping[str, Sequence[int]], totals: Sequence[int], last: str
) -> Table:
    """Parts by phase in GiB; the phase that needs most is bold."""
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column(what)
    for phase, total in zip(phases, totals, strict=True):
        table.add_column(phase, justify="right", style="bold" if total == max(totals) else "")
    for part, sizes in parts.items():
        if any(sizes):
            table.add_row(part, *(gib(size) if size else "-" for size in sizes))
    table.add_row(last, *map(gib, totals))
    return table


def _places(where: NodeLayout) -> list[str]:
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
