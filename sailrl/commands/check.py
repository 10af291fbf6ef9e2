"""``sailrl check``: everything about a run that can be checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from sailrl.commands.check_plan import Machines, print_plan
from sailrl.commands.check_sources import check_sources
from sailrl.commands.tensors import tensor_problems
from sailrl.config.base import Section
from sailrl.config.checks import preflight_problems, validate, warnings
from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.filtering import FilterConfig
from sailrl.config.fusing import FuseConfig
from sailrl.config.load import join, load, run_dir
from sailrl.config.needs import FILES, GPUS, REST, kind_is_supported
from sailrl.config.recipe import RecipeConfig
from sailrl.config.schema import RlvrConfig
from sailrl.config.sft import SftConfig
from sailrl.data.rows import count_rows
from sailrl.errors import ConfigError
from sailrl.launch.asked import asked_otherwise
from sailrl.plan.batch import batch_plan, other_reading, render
from sailrl.report.safe_text import say
from sailrl.report.shown import counted


def check_job(
    path: Path,
    overrides: Sequence[str],
    console: Console | None = None,
    *,
    with_data: bool = False,
    machines: Machines | None = None,
) -> None:
    """Validates a configuration, prints what follows from it, and counts its data. Starts nothing.

    Args:
        with_data: render every problem and compare what all parts of the system make of it.
        machines: what the plan of memory and placement is for; None for this one.

    Raises:
        ConfigError: something is wrong or missing; all complaints together, after the table.
    """
    console = console or Console(highlight=False)
    loaded = load(path, overrides)
    config = loaded.config
    validate(config, loaded.where)
    say(console, f"{path}: kind {config.kind}, run folder {run_dir(config, path)}")
    if isinstance(config, RecipeConfig):
        for number, (name, stage) in enumerate(config.stages.items(), start=1):
            say(console, f"  {number}. {name} ({stage.kind})")
    if isinstance(config, RlvrConfig):
        plan = batch_plan(config)
        console.print(render(plan))
        if note := other_reading(plan):
            say(console, note)
    elif isinstance(config, FilterConfig):
        say(console, describe_filter(config))
    elif isinstance(config, FuseConfig):
        say(console, describe_fuse(config))
    if (rewards := getattr(config, "rewards", None)) is not None:
        say(console, f"accuracy: the share of responses to which {rewards.accuracy_part} gives a full 1")
    otherwise = asked_otherwise(config) if isinstance(config, EvaluateConfig) else ()
    for warning in (*warnings(config, loaded.where), *otherwise):
        say(console, f"warning: {warning}")
    missing = preflight_problems(config, loaded.where, FILES)
    problems = preflight_problems(config, loaded.where, REST) + tensor_problems(config, loaded.where)
    with ExitStack() as opened:
        prompts = None
        if with_data:
            from sailrl.commands.check_data import open_prompt_check  # loads torch, which a plain check does without

            prompts, complaint = open_prompt_check(config, console, opened)
            problems += [complaint] if complaint else []
        complaints, pictures = check_sources(config, console, prompts)
    said = problems + missing
    problems += [text for text in complaints if not any(text.partition(": ")[2] in known for known in said)]
    for name, path in _scored_files(config):
        if path.is_file():
            say(console, f"{name}: {count_rows(path):,} rows")
    planned_here = True
    if isinstance(config, RlvrConfig | SftConfig) and not any(kind_is_supported(config)):
        built = run_dir(config, path) / ("model" if isinstance(config, RlvrConfig) else "start")
        built_here = built if (built / "config.json").is_file() and config.model.build else None
        plan_for = machines or Machines()
        planned_here = print_plan(config, plan_for, console, image_bytes=pictures.encoded_bytes, built=built_here)
    problems += preflight_problems(config, loaded.where, GPUS) if planned_here else []
    if missing:
        here = "\n".join(f"  {text}" for text in missing)
        problems.append(f"Missing on this machine, and needed when the run starts:\n{here}")
    if problems:
        raise ConfigError("\n\n".join(problems) if missing else join(problems))
    console.print("ok")


def _scored_files(config: Section) -> Iterator[tuple[str, Path]]:
    if isinstance(config, FilterConfig) and config.scored is not None:
        yield "scored", Path(config.scored).expanduser()
    elif isinstance(config, FuseConfig):
        for number, path in enumerate(config.cot):
            yield f"cot[{number}]", Path(path).expanduser()


def describe_filter(config: FilterConfig) -> str:
    """What a filter will do, step by step."""
    steps = [f"multiple choice to free response, others {config.mcq.otherwise}"] if config.mcq else []
    if config.mcq and config.mcq.rewrite:
        steps[-1] += f", wording rewritten by {config.mcq.rewrite.use}"
    if config.dedup:
        near = "" if config.dedup.near is None else f" and near (from {config.dedup.near:g} on)"
        steps.append(f"one of exact{near} duplicates")
    if config.decontaminate:
        steps.append(f"nothing of {', '.join(config.decontaminate.names)}")
    if config.scored is None:
        steps.append(
            f"{config.samples} responses per problem, of at most {config.rollout.max_response_tokens:,} tokens, with "
            f"{counted(config.rollout.workers, 'engine')}"
        )
    low, high = config.pass_at_k.keep
    steps.append(f"kept where {low:g} < accuracy < {high:g} ({config.correct_score}); perception: accuracy < {high:g}")
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))


def describe_fuse(config: FuseConfig) -> str:
    """What a fusion will do, step by step."""
    select = config.select
    needs = [f"{select.correct} >= {select.correct_from:g}"]
    needs += [f"{select.well_formed} = 1"] if select.well_formed else []
    needs += [f"{select.sound} >= {select.sound_from:g}"] if select.sound else []
    rows = "all that fit" if config.total is None else f"{config.total:,} rows"
    leaks = f"; nothing of {', '.join(config.decontaminate.names)}" if config.decontaminate else ""
    return (
        f"1. responses with {', '.join(needs)}; at most {select.at_most} per problem by {', '.join(select.rank)}"
        f"{leaks}\n"
        f"2. {rows}, {100 * config.cot_share:g}% of them with a chain of thought, as fused.{config.format}"
    )
