"""RL runs one after another on one vLLM engine, whose start (a minute of processor time on two cores) is paid once.

A run begins by publishing its own start weights and proving that the engine has them, so that nothing of the run before
is left in it: the loop, the learner and all other parts are made again for every run.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sailrl.config.schema import RlvrConfig
from sailrl.launch.engines import open_pool
from sailrl.launch.placement import actor_options, cluster, nodes
from sailrl.launch.run_folder import claimed
from sailrl.launch.starts import UNTYPED
from sailrl.plan.batch import batch_plan
from sailrl.report.progress import open_progress
from sailrl.rl.build import engine_spec, open_session
from sailrl.rl.loop import train
from sailrl.rl.prepare import Prepared, prepare
from sailrl.rl.stop import Stop
from sailrl.rollout.pool import RolloutPool


class SharedEngine:
    """A started engine, and what all runs on it have in common: problems and start weights."""

    def __init__(self, prepared: Prepared, pool: RolloutPool, stop: Stop) -> None:
        self._prepared, self._pool, self._stop = prepared, pool, stop

    async def run(self, config: RlvrConfig, folder: Path) -> None:
        """A whole run, from the first publish to the last evaluation; what an earlier try left behind is removed."""
        shutil.rmtree(folder, ignore_errors=True)
        plan = batch_plan(config)
        with claimed(folder), open_progress(folder.name, plan.updates) as progress:
            UNTYPED.begins(config, folder)
            opened = open_session(config, folder, self._prepared, progress, self._stop, identity={}, engines=self._pool)
            async with opened as session:
                await train(config, plan, session, folder, progress)


@asynccontextmanager
async def shared_engine(config: RlvrConfig, work: Path) -> AsyncIterator[SharedEngine]:
    """Prepares problems and start weights in ``work``, and starts Ray and the engine; the weights are kept there."""
    work.mkdir(parents=True, exist_ok=True)
    with open_progress(work.name, 0) as progress:
        prepared = prepare(config, work, progress)
        stop = Stop(progress.message)
        with cluster(work), stop.listening():
            progress.stage("starting the engine")
            pool = open_pool(
                engine_spec(config, prepared),
                actor_options=actor_options(config, nodes()).workers,
                notify=progress.message,
            )
            try:
                await pool.start()
                yield SharedEngine(prepared, pool, stop)
            finally:
                await pool.stop()
