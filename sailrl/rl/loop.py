"""Reinforcement learning with verifiable rewards: the loop."""

from __future__ import annotations

from asyncio import to_thread
from pathlib import Path

from sailrl.config.schema import RlvrConfig
from sailrl.data.batch import Sample
from sailrl.errors import MismatchError
from sailrl.plan.batch import BatchPlan
from sailrl.report.progress import Progress
from sailrl.report.timing import Pace, Stopwatch
from sailrl.rl.diagnosis import diagnosed
from sailrl.rl.episode import advantages, clip_signal, episode_metrics, update_metrics
from sailrl.rl.evaluate import evaluate
from sailrl.rl.publish import publish
from sailrl.rl.session import Session
from sailrl.rl.workers import wanted_workers
from sailrl.rollout.collect import NothingToLearn
from sailrl.types import Group


async def train(config: RlvrConfig, plan: BatchPlan, run: Session, run_dir: Path, progress: Progress) -> None:
    """Runs the episodes after ``run.state`` until the last one, or until the run is asked to end: then generation is
    cancelled, or the updates of the episode are finished, and the run is saved.

    The learner works in a thread, so that the event loop continues to receive and score responses: those of the next
    episodes where ``rollout.max_staleness`` is 1 or more, none otherwise.

    Raises:
        NothingToLearn: too few groups have a learning signal; the run so far is evaluated and saved.
        SailError: the run cannot continue for another reason; the last checkpoint is complete.
    """
    state, watch, pace = run.state, Stopwatch(), Pace(plan.updates_per_episode)
    progress.doing("publishing the weights, and comparing the engines with the learner")
    await publish(run, state.version)
    if state.episode == 0:
        await run.stop.unless(evaluate(config, run, watch, progress))

    while True:
        at_rest = run.collector.state_dict()
        if (count := wanted_workers(run_dir)) is not None:
            run.pool.resize(count)
        if run.stop.asked or state.episode >= config.batch.episodes:
            break
        progress.doing("generating")
        try:
            with watch("generate"):
                episode = await run.collect(plan.prompts_per_episode)
        except NothingToLearn:
            if state.episode % config.eval.every_episodes:
                await evaluate(config, run, watch, progress)
            if state.episode % config.checkpoint.every_episodes:
                await run.checkpoint(run_dir, config.checkpoint.keep)
            raise
        if episode is None:
            break
        state.episode += 1
        shared = episode_metrics(episode, state, config.rewards) | run.score_metrics()
        gains = advantages(episode.kept, config.algorithm, config.rewards)
        await to_thread(run.log_rollouts, state.episode, episode, gains)

        progress.doing("learning")
        samples, updates = _updates(episode.kept, gains, plan)
        await run.rest_engines()
        with watch("learn"):
            await to_thread(run.learners.set_episode, samples, updates)
            if len(updates) > 1:
                await to_thread(run.learners.compute_old_logprobs)
        clip, outcomes = run.clip.range, list[dict[str, float]]()
        for number, rows in enumerate(updates, start=1):
            with watch("learn"):
                try:
                    learned = await to_thread(run.learners.update, rows, clip_low=clip.low, clip_high=clip.high)
                except MismatchError as error:
                    raise await diagnosed(error, config, run, episode.kept, run_dir) from None
            outcomes.append(learned)
            state.step += 1
            if number == len(updates):
                run.clip.update(clip_signal(run.clip.signal, outcomes))
                with watch("sync"):
                    shared |= await publish(run, state.version + 1)
                shared |= await to_thread(run.learners.expert_load, run.text_probe)
            spent = watch.lap()
            speed = pace.after(learned["tokens"], spent)
            values = shared | run.pool.metrics() | update_metrics(learned, clip) | spent | speed
            run.metrics.log(state.step, values)
            progress.update(state.step, values)

        last = state.episode == config.batch.episodes
        if last or state.episode % config.eval.every_episodes == 0:
            await evaluate(config, run, watch, progress)
        if last or state.episode % config.checkpoint.every_episodes == 0:
            with watch("checkpoint"):
                await run.checkpoint(run_dir, config.checkpoint.keep)
    if run.stop.asked and state.episode % config.checkpoint.every_episodes:
        await run.checkpoint(run_dir, config.checkpoint.keep, collector=at_rest)


def _updates(groups: list[Group], gains: list[list[float]], plan: BatchPlan) -> tuple[list[Sample], list[list[int]]]:
    """The samples of an episode, and the rows of each update: whole groups, in as many passes as configured.

    Responses without a reward are left out.
    """
    samples: list[Sample] = []
    one_pass: list[list[int]] = []
    for number, (group, gain) in enumerate(zip(groups, gains, strict=True)):
        if number % plan.groups_per_update == 0:
            one_pass.append([])
        for rollout, advantage in zip(group.rollouts, gain, strict=True):
            if rollout.reward is not None:
                one_pass[-1].append(len(samples))
                samples.append(Sample.of(group.prompt, rollout.completion, advantage))
    return samples, one_pass * plan.passes_per_episode
