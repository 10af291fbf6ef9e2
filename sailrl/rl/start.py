"""From an RL configuration and its folder to the running loop: Ray, the parts, the progress display, the summary."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from sailrl.config.schema import RlvrConfig
from sailrl.errors import LearnerDied, WorkerDied
from sailrl.launch.placement import cluster
from sailrl.launch.restarts import Restarts
from sailrl.launch.starts import UNTYPED, Continuation, Start, settings_identity
from sailrl.plan.batch import batch_plan
from sailrl.report.progress import open_progress
from sailrl.report.summary import print_summary
from sailrl.rl import checkpoints
from sailrl.rl.build import open_session
from sailrl.rl.identity import FIXED, SETTINGS, whole_identity
from sailrl.rl.loop import train
from sailrl.rl.prepare import prepare
from sailrl.rl.stop import Stop
from sailrl.rollout.collect import NothingToLearn


def start_rlvr(config: RlvrConfig, folder: Path, start: Start = UNTYPED) -> None:
    """Runs or resumes reinforcement learning in ``folder``; a finished run only prints its summary.

    Raises:
        SystemExit: 0 when the run was asked to end, 1 when too few groups had a learning signal after some episodes.
        SailError: it cannot go on; the last checkpoint is whole.
        CheckpointError: the last checkpoint is damaged, or belongs to another experiment.
    """
    plan = batch_plan(config)
    checkpoint = checkpoints.latest(folder)
    state = checkpoints.load(checkpoint) if checkpoint else checkpoints.RunState()
    early: NothingToLearn | None = None
    settings = start.recorded(config)
    run = Continuation(start, config, folder, checkpoint, state.identity, FIXED)

    async def job() -> None:
        prepared = prepare(config, folder, progress, resumed=checkpoint is not None)
        identity = whole_identity(config, settings, prepared, folder)
        run.compare(identity)
        run.say_changes(progress.message)

        async def session() -> None:
            if newest := checkpoints.latest(folder):
                progress.doing("comparing the checkpoint with its checksums")
                checkpoints.verify(newest)
            else:
                run.begins(episode=0, step=0)  # nothing was trained with other settings yet
            progress.doing("starting Ray")
            with cluster(folder), stop.listening():  # again, since Ray takes over SIGTERM whenever it starts
                async with open_session(config, folder, prepared, progress, stop, identity=identity) as parts:
                    run.begins(episode=state.episode, step=state.step)
                    with stop.can_save():
                        await train(config, plan, parts, folder, progress)

        await restarted(session, Restarts(config.run.max_restarts, progress.message))

    with open_progress(folder.name, plan.updates, done=state.step) as progress:
        stop = Stop(progress.message)
        if checkpoint:  # before anything is read or built for another experiment
            run.compare(settings_identity(SETTINGS, settings, config.model, folder))
        if state.episode >= config.batch.episodes:
            progress.message(f"{folder} is finished: {state.episode} episodes. Raise batch.episodes to go on.")
            run.say_changes(progress.message)
        else:
            if checkpoint:
                progress.message(f"resuming from {checkpoint}: {state.step} of {plan.updates} updates are done")
            with stop.listening():
                try:
                    asyncio.run(job())
                except NothingToLearn as error:
                    if checkpoints.latest(folder) is None:
                        raise
                    early = error
    saved = checkpoints.latest(folder)
    if stop.asked:
        print(asked_to_end(saved))
        raise SystemExit(0)  # so that a recipe does not take this stage as finished
    print_summary(folder)
    if early and saved:
        print(f"error: {ended_early(early, saved, config.batch.episodes)}", file=sys.stderr)
        raise SystemExit(1)


def asked_to_end(saved: Path | None) -> str:
    """The message of a run that ends because it was asked to; ``saved`` is its last checkpoint."""
    if saved is None:
        return "The run was asked to end. Nothing was saved: no episode was finished. The same command starts it again."
    return f"The run was asked to end. Run the same command to go on from {saved}."


def ended_early(reason: NothingToLearn, saved: Path, episodes: int) -> str:
    """The message of a run that ends before all ``episodes`` are done, since too few groups have a learning signal."""
    done = checkpoints.load(saved).episode
    return (
        f"the run ended early, after {done} of {episodes} episodes: {reason} What was learned is saved in {saved}; to "
        f"leave it at that, set batch.episodes={done}."
    )


async def restarted(session: Callable[[], Awaitable[None]], restarts: Restarts) -> None:
    """Runs ``session``, and again when one of its processes died that it cannot replace.

    Raises:
        LearnerError: one died more often than ``restarts`` allows.
    """
    while True:
        try:
            return await session()
        except (LearnerDied, WorkerDied) as death:
            restarts.after(death)
