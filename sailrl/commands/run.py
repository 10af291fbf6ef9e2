"""``sailrl run``: loads and checks the configuration, claims the run folder, and starts the job of its kind."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sailrl.commands.result import Ending, RunResult
from sailrl.commands.tensors import preflight_tensors
from sailrl.config.checks import preflight, validate, warnings
from sailrl.config.load import Source, load, name_of, run_dir
from sailrl.config.schema import JobConfig
from sailrl.errors import ConfigError, Fault, SailError
from sailrl.launch.failure import explained
from sailrl.launch.head import set_environment
from sailrl.launch.run_folder import claimed
from sailrl.launch.starts import UNTYPED, Start, in_force, refuse_other_kind
from sailrl.plugins import load as load_object

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""


@dataclass(frozen=True, slots=True)
class Job:
    """A checked configuration with its run folder."""

    config: JobConfig
    folder: Path
    start: Start

    def run(self) -> RunResult:
        """Runs or resumes it.

        Raises:
            SailError: with a message for the user; nothing that was saved is lost.
        """
        ending: Ending = "finished"
        try:
            run_stage(self.config, self.folder, self.start)
        except SystemExit as stopped:  # see start_rlvr
            ending = "early" if stopped.code else "asked"
        return RunResult.of(self.config, self.folder, ending)


def ready(
    source: Source,
    overrides: Sequence[str] = (),
    *,
    verb: str = "run",
    settings: Sequence[str] = (),
    allow_changes: bool = False,
) -> Job:
    """Checks everything that can be checked before the job that ``source`` describes starts.

    Args:
        overrides: ``key=value`` as typed.
        verb: the command that was typed; other than ``run``, it is the kind of job that it starts.
        settings: further ``key=value`` that options of the command stand for.
        allow_changes: go on although it becomes another experiment.

    Raises:
        SailError: all that is wrong.
    """
    set_environment()
    typed = in_force(source, [*overrides, *settings])
    loaded = load(source, [one.text for one in typed])
    if earlier := [one.text for one in typed if one.text not in overrides and one.text not in settings]:
        print(f"kept from an earlier start: {shlex.join(earlier)}")
    if verb != "run" and loaded.config.kind != verb:
        name, kind = name_of(source), loaded.config.kind
        raise ConfigError(f"{name} is of kind {kind}, and `sailrl {verb}` runs kind {verb}. Type `sailrl run {name}`.")
    validate(loaded.config, loaded.where)
    for warning in warnings(loaded.config, loaded.where):
        print(f"warning: {warning}", file=sys.stderr)
    preflight(loaded.config, loaded.where)
    preflight_tensors(loaded.config, loaded.where)
    return Job(loaded.config, run_dir(loaded.config, source), Start(typed=typed, allow_changes=allow_changes))


def filter_settings(scored: str | Path | None) -> list[str]:
    """What `sailrl filter --from SCORED` stands for: no model is loaded."""
    return [] if scored is None else [f"scored={json.dumps(str(scored))}", "model=null", "data=null", "mcq=null"]


def run_job(job: Job) -> None:
    """Runs a job from the command line, and says how to go on when it stops.

    Raises:
        SystemExit: it was interrupted, or the data had nothing left to teach.
        SailError: see ``Job.run``.
    """
    command = shlex.join(["sailrl", *sys.argv[1:]])
    try:
        result = job.run()
    except KeyboardInterrupt:
        print(f"\nThe run was interrupted. To go on from where it was last saved:\n  {command}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except (SailError, Fault):
        print(f"\nThe run stopped. To go on once the error below is fixed:\n  {command}", file=sys.stderr)
        raise
    if result.ended == "early":
        raise SystemExit(1)


def run_stage(config: JobConfig, folder: Path, start: Start = UNTYPED) -> None:
    """Runs or resumes a checked configuration in its folder, which no other run may use meanwhile.

    Raises:
        SailError: with a message for the user; of a disk that refuses a file, too, whichever file that is.
        Fault: an error that nothing expected; its traceback is in the folder.
    """
    if config.loads:
        print(f"loading {config.loads} ...", file=sys.stderr, flush=True)
    job: Callable[[Any, Path, Start], None] = load_object(config.runs)
    try:
        with claimed(folder):
            refuse_other_kind(config, folder)
            job(config, folder, start)
    except (SailError, Fault):  # of a recipe's stage, which came through here
        raise
    except Exception as error:
        raise explained(error, folder) from error
