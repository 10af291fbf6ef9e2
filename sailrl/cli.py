"""The command line. Thin on purpose: parse, hand over to one job, print errors. Exit code 2 is a user's mistake.

Jobs are imported inside their command, so that ``sailrl --help`` stays fast and scoring never loads torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sailrl.errors import SailError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Reinforcement-learning post-training for vision-language reasoning models.",
)

ConfigFile = Annotated[Path, typer.Argument(help="A YAML file, e.g. configs/rlvr_tiny.yaml", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.key=value ...", show_default=False)]


@app.command()
def run(config: ConfigFile, overrides: Overrides = None) -> None:
    """Train. Run it again on the same run folder and it resumes from the last checkpoint."""
    from sailrl.jobs.run import run_job

    run_job(config, overrides or [])


@app.command()
def check(config: ConfigFile, overrides: Overrides = None) -> None:
    """Validate a config and print what follows from it, without starting anything."""
    from sailrl.jobs.check import check_job

    check_job(config, overrides or [])


def main() -> None:
    """Entry point of the ``sailrl`` script."""
    try:
        app()
    except SailError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
