"""The command line: it parses, starts one job, and prints errors. Exit code 2 is a mistake of the user or an error of
the machine, 1 an unexpected error.

Jobs are imported inside their command, so that ``sailrl --help`` stays fast and scoring never loads torch.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from sailrl.errors import SailError
from sailrl.launch.head import set_environment

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Reinforcement-learning post-training for vision-language reasoning models.",
)

ConfigFile = Annotated[Path, typer.Argument(help="A YAML file, as those in configs/.", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.key=value, over the file.", show_default=False)]


@app.command()
def init(
    kind: Annotated[str, typer.Argument(help="rlvr, sft, filter, fuse, eval or recipe.", show_default=False)],
    file: Annotated[Path | None, typer.Argument(help="The file to write.", show_default="KIND.yaml")] = None,
) -> None:
    """Write a small config to start from, with comments. It runs as it stands, on a CPU."""
    from sailrl.commands.init import init_job

    init_job(kind, file)


@app.command()
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    allow_changes: Annotated[
        bool,
        typer.Option(
            "--allow-changes", help="Resume although data, rewards or the like differ from what the run began with."
        ),
    ] = False,
) -> None:
    """Train. Run it again on the same run folder and it resumes from the last checkpoint."""
    from sailrl.commands.run import ready, run_job

    run_job(ready(config, overrides or [], allow_changes=allow_changes))


@app.command()
def check(
    config: ConfigFile,
    overrides: Overrides = None,
    data: Annotated[
        bool,
        typer.Option(
            "--data",
            help="Also turn every problem into tokens, and compare what processor, engine and learner make of it.",
        ),
    ] = False,
    nodes: Annotated[int | None, typer.Option(help="Machines to plan for.", show_default="as many as needed")] = None,
    gpus_per_node: Annotated[
        int | None, typer.Option(min=0, help="Their GPUs; 0 is this machine's CPU.", show_default="this machine's")
    ] = None,
    gpu_gib: Annotated[float | None, typer.Option(help="Memory of one.", show_default="this machine's, or 80")] = None,
    model_config: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the model's config.json is, if not at model.path.")
    ] = None,
) -> None:
    """Validate a config and print what follows from it, memory and placement too, without starting anything."""
    from sailrl.commands.check import check_job
    from sailrl.commands.check_plan import Machines

    machines = Machines(nodes, gpus_per_node, gpu_gib, model_config)
    check_job(config, overrides or [], with_data=data, machines=machines)


@app.command("filter")
def filter_(
    config: ConfigFile,
    overrides: Overrides = None,
    scored: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="SCORED",
            help="Scored responses to decide on, instead of sampling: no model is loaded, and `model`, `data` and "
            "`mcq` of the config are left out.",
        ),
    ] = None,
) -> None:
    """Keep the problems that the model can learn from. Run it again and only what is missing is sampled."""
    from sailrl.commands.run import filter_settings, ready, run_job

    run_job(ready(config, overrides or [], verb="filter", settings=filter_settings(scored)))


@app.command()
def fuse(config: ConfigFile, overrides: Overrides = None) -> None:
    """Mix the model's best own responses with direct answers into the next SFT set."""
    from sailrl.commands.run import ready, run_job

    run_job(ready(config, overrides or [], verb="fuse"))


@app.command()
def score(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="JSONL or Parquet: `response` and the problem's fields.")
    ],
    out: Annotated[Path | None, typer.Option(help="Where to: the same rows with `reward` and `scores`.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with a `rewards:` section.")] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHT",
            help="A built-in reward (boxed), 'module:Name' or 'my_reward.py:MyReward', and its weight. "
            "May be repeated. Default: boxed=0.9 think_format=0.1.",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.", show_default="2, or the config's")] = None,
    explain: Annotated[str | None, typer.Option(metavar="ID", help="Show how one row is decided (id or line).")] = None,
    compare: Annotated[
        str | None,
        typer.Option(metavar="OTHER", help="Agreement with 'column:LABEL', a scored file, or another reward."),
    ] = None,
) -> None:
    """Score the responses in a file, with the very code that training uses. Run it again to resume."""
    from sailrl.commands.score import ScoreOptions, score_job

    score_job(ScoreOptions(source, out, config, reward or (), workers, explain, compare))


@app.command("eval")
def eval_(config: ConfigFile, overrides: Overrides = None) -> None:
    """Try models side by side on held-out problems. Run it again and only what is missing is tried."""
    from sailrl.commands.run import ready, run_job

    run_job(ready(config, overrides or [], verb="eval"))


@app.command()
def merge(
    models: Annotated[list[Path], typer.Argument(help="Model folders, or one adapter folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)],
    weight: Annotated[
        list[float] | None, typer.Option(help="One per model, in their order; scaled to sum to 1. Default: equal.")
    ] = None,
) -> None:
    """Average models of one kind (a soup), or put an adapter into its base model."""
    from sailrl.commands.merge import merge_job

    merge_job(models, out, weight or ())


@app.command()
def workers(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run, e.g. runs/rlvr_8b", show_default=False)],
    count: Annotated[int, typer.Argument(help="Rollout workers from the next episode on.", show_default=False)],
) -> None:
    """Add or remove rollout workers while a run goes on."""
    from sailrl.rl.workers import workers_job

    workers_job(run_dir, count)


@app.command()
def report(
    run_dirs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="Run folders, e.g. runs/rlvr_tiny", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="in the first RUN_DIR")] = None,
) -> None:
    """Write a web page about a run: curves, samples, rewards, what was dropped; or about several, which compares them:
    differences of their configurations, results, curves. Prints its path."""
    from sailrl.report.comparison import write_comparison
    from sailrl.report.html import write_report

    print(write_report(run_dirs[0], out) if len(run_dirs) == 1 else write_comparison(run_dirs, out))


@app.command()
def rollouts(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run or an evaluation.", show_default=False)],
    episode: Annotated[int | None, typer.Option(help="Only of this episode.", show_default="all")] = None,
    best: Annotated[bool, typer.Option("--best", help="Those with the highest reward.")] = False,
    worst: Annotated[bool, typer.Option("--worst", help="Those with the lowest reward.")] = False,
    reward: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Best and worst by this one; alone: worst.", show_default="all"),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only problems of this task.", show_default="all")] = None,
    grep: Annotated[str | None, typer.Option(metavar="TEXT", help="Only with this text, in any case.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
) -> None:
    """Show responses of a run with their scores: the newest, the best or the worst."""
    from sailrl.commands.rollouts import Wanted, order_of, print_rollouts

    print_rollouts(run_dir, Wanted(episode, task, grep, reward, order_of(best, worst, reward), count))


@app.command()
def push(
    run_dir: Annotated[Path, typer.Argument(help="A run folder, e.g. runs/rlvr_tiny", show_default=False)],
    repo: Annotated[str | None, typer.Argument(help="A repository of the hub: user/name.", show_default=False)] = None,
    to: Annotated[Path | None, typer.Option(help="A folder to write instead.", show_default=False)] = None,
    best: Annotated[bool, typer.Option("--best", help="The best evaluated checkpoint, not the newest.")] = False,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
) -> None:
    """Publish the model of a run with a card, its adapter, recipe, curve and metrics."""
    from sailrl.commands.push import push_job

    print(push_job(run_dir, repo, to, best=best, private=private))


@app.command()
def schema(
    kind: Annotated[
        str | None, typer.Argument(help="rlvr, sft, filter, fuse, eval or recipe.", show_default="all kinds")
    ] = None,
) -> None:
    """Print the JSON Schema of a kind of config, for editors: every key with its type, limits, default and effect."""
    from sailrl.commands.schema import schema_text

    print(schema_text(kind), end="")


def main() -> None:
    """Entry point of the ``sailrl`` script."""
    set_environment()  # before torch is loaded
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # responses and paths have letters that a console may lack
            stream.reconfigure(errors="backslashreplace")
    try:
        os.getcwd()
    except FileNotFoundError:
        print("error: the folder that you are in was removed. Change to another one.", file=sys.stderr)
        sys.exit(2)
    try:
        app()
    except Exception as raised:
        from sailrl.launch.failure import explained
        from sailrl.report.safe_text import safe_lines

        error = explained(raised)
        print(f"error: {safe_lines(str(error))}", file=sys.stderr)  # which may quote a user's data
        sys.exit(2 if isinstance(error, SailError) else 1)
