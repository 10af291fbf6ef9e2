"""``sailrl run``: load and check the configuration, prepare the run folder, hand over to the job of its kind."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from sailrl.config.checks import preflight, validate, warnings
from sailrl.config.load import load, resolved_yaml, run_dir
from sailrl.config.plan import batch_plan
from sailrl.config.schema import RlvrConfig
from sailrl.errors import ConfigError
from sailrl.report.progress import open_progress


def run_job(path: Path, overrides: Sequence[str]) -> None:
    """Runs the job that ``path`` describes; a run folder with a checkpoint is resumed.

    Raises:
        SailError: with a message for the user; nothing that was saved is lost.
    """
    loaded = load(path, overrides)
    assert isinstance(loaded.config, RlvrConfig)  # the only kind so far
    validate(loaded.config, loaded.where)
    for warning in warnings(loaded.config, loaded.where):
        print(f"warning: {warning}", file=sys.stderr)
    preflight(loaded.config, loaded.where)
    folder = run_dir(loaded.config, path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolved.yaml").write_text(resolved_yaml(loaded.config))
    except OSError as error:
        raise ConfigError(
            f"cannot write to the run folder {folder}: {error}. Choose another with run.dir=..."
        ) from error
    command = shlex.join(["sailrl", "run", str(path), *overrides])
    try:
        _rlvr(loaded.config, folder)
    except BaseException as error:
        if not isinstance(error, SystemExit):
            print(
                f"\nThe run stopped ({type(error).__name__}). To go on from its last checkpoint:\n  {command}",
                file=sys.stderr,
            )
        raise


def _rlvr(config: RlvrConfig, folder: Path) -> None:
    from sailrl.jobs import run_state
    from sailrl.jobs.placement import cluster
    from sailrl.jobs.prepare import prepare
    from sailrl.jobs.rlvr import train
    from sailrl.jobs.session import open_session
    from sailrl.report.summary import print_summary

    plan = batch_plan(config)
    checkpoint = run_state.latest(folder)
    state = run_state.load(checkpoint) if checkpoint else run_state.RunState()

    async def job() -> None:
        prepared = prepare(config, folder, progress)
        with cluster():
            async with open_session(config, folder, prepared, progress) as session:
                await train(config, plan, session, folder, progress)

    with open_progress(folder.name, plan.updates, done=state.step) as progress:
        if state.episode >= config.batch.episodes:
            progress.message(f"{folder} is finished: {state.episode} episodes. Raise batch.episodes to go on.")
        else:
            if checkpoint:
                progress.message(f"resuming from {checkpoint}: {state.step} of {plan.updates} updates are done")
            asyncio.run(job())
    print_summary(folder)
