"""From an RL configuration and its folder to the running loop: Ray, the parts, the progress display, the summary."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sailrl.config.plan import batch_plan
from sailrl.config.schema import RlvrConfig
from sailrl.jobs import run_state
from sailrl.jobs.placement import cluster
from sailrl.jobs.prepare import prepare
from sailrl.jobs.rlvr import train
from sailrl.jobs.session import open_session
from sailrl.report.progress import open_progress
from sailrl.report.summary import print_summary


def start_rlvr(config: RlvrConfig, folder: Path) -> None:
    """Runs or resumes reinforcement learning in ``folder``; a finished run only prints its summary."""
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
