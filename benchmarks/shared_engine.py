"""RL runs one after another on one vLLM engine, whose start (a minute of processor time on two cores) is paid once.

A run begins by publishing its own start weights and proving that the engine has them, so that nothing of the run before
is left in it: the loop, the learner and all other parts are made anew for every run.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from sailrl.config.plan import batch_plan
from sailrl.config.schema import RlvrConfig
from sailrl.jobs.collector import build_collector
from sailrl.jobs.engines import EngineSpec, open_pool, score_rollout
from sailrl.jobs.episode import clip_controller
from sailrl.jobs.parts import Session
from sailrl.jobs.placement import cluster, nodes, places
from sailrl.jobs.prepare import Prepared, prepare
from sailrl.jobs.rlvr import train
from sailrl.jobs.run_folder import claimed
from sailrl.jobs.run_state import RunState
from sailrl.jobs.session import build_sync
from sailrl.jobs.stop import Stop
from sailrl.learner.group import LearnerGroup
from sailrl.report.metrics import MetricsLog
from sailrl.report.progress import open_progress
from sailrl.report.traces import RolloutLog
from sailrl.rollout.engine import Sampling
from sailrl.rollout.pool import RolloutPool
from sailrl.scoring.scorer import Scorer
from sailrl.scoring.spec import ScoringSpec
from sailrl.sync.probe import Probe

PROBE_PROMPTS = 2


class SharedEngine:
    """A started engine, and what all runs on it have in common: problems and start weights."""

    def __init__(self, prepared: Prepared, pool: RolloutPool, stop: Stop) -> None:
        self._prepared, self._pool, self._stop = prepared, pool, stop

    async def run(self, config: RlvrConfig, folder: Path) -> None:
        """A whole run, from the first publish to the last evaluation; what an earlier try left behind is removed."""
        shutil.rmtree(folder, ignore_errors=True)
        plan, state, given, pool = batch_plan(config), RunState(), self._prepared, self._pool
        async with AsyncExitStack() as ending:
            ending.enter_context(claimed(folder, config))
            progress = ending.enter_context(open_progress(folder.name, plan.updates))
            scorer = Scorer(ScoringSpec.from_config(config.rewards))
            ending.callback(scorer.close)
            ranks = places(config, nodes()).ranks
            learners = LearnerGroup(config, given.model, str(given.images), state=None, places=ranks)
            ending.callback(learners.stop)
            sync = build_sync(config, learners, pool)
            ending.callback(sync.close)
            sampling = Sampling.of(config.rollout, config.batch.group_size, given.processor.banned_ids)
            metrics, rollouts = MetricsLog(folder), RolloutLog(folder, accuracy=config.rewards.accuracy_part)
            ending.callback(metrics.close)
            ending.callback(rollouts.close)
            probe = Probe(learners, pool, given.train[:PROBE_PROMPTS], tolerance=config.sync.probe_tolerance)
            pool.prove_with(probe.prove)
            session = Session(
                state=state,
                learners=learners,
                pool=pool,
                collector=build_collector(config, given.train, pool, partial(score_rollout, scorer), sampling),
                sync=sync,
                probe=probe,
                metrics=metrics,
                rollouts=rollouts,
                clip=clip_controller(config.algorithm, state.clip),
                eval_prompts=given.eval,
                text_probe=[],
                processor=given.processor,
                stop=self._stop,
            )
            await train(config, plan, session, folder, progress)


@asynccontextmanager
async def shared_engine(config: RlvrConfig, work: Path) -> AsyncIterator[SharedEngine]:
    """Prepares problems and start weights in ``work``, and starts Ray and the engine; the weights are kept there."""
    work.mkdir(parents=True, exist_ok=True)
    with open_progress(work.name, 0) as progress:
        prepared = prepare(config, work, progress)
        stop = Stop(progress.message)
        with cluster(), stop.listening():
            progress.stage("starting the engine")
            spec = EngineSpec(
                config.model,
                config.data,
                config.rollout,
                weights=prepared.model,
                images=str(prepared.images),
                seed=config.run.seed,
            )
            pool = open_pool(spec, places=places(config, nodes()).workers, say=progress.message)
            try:
                await pool.start()
                yield SharedEngine(prepared, pool, stop)
            finally:
                await pool.stop()
