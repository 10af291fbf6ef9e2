"""Accuracy on held-out problems, with the engines' current weights."""

from __future__ import annotations

from statistics import fmean

from sailrl.config.schema import RlvrConfig
from sailrl.report.progress import Progress
from sailrl.report.timing import Stopwatch
from sailrl.rl.episode import part_means
from sailrl.rl.session import Session
from sailrl.rollout.collect import wave_seed
from sailrl.rollout.engine import Sampling
from sailrl.types import accuracy


async def evaluate(config: RlvrConfig, run: Session, watch: Stopwatch, progress: Progress) -> None:
    """Samples every held-out problem and logs ``eval/accuracy`` (the share of responses that are right),
    ``eval/reward/<name>``, ``eval/response_tokens`` and the counts of scoring.

    A response that could not be scored is left out of the accuracy and counted as ``eval/unscored``.
    """
    if not run.eval_prompts:
        return
    progress.doing("evaluating")
    sampling = Sampling.of(config.rollout, config.eval.samples, run.processor, temperature=config.eval.temperature)
    seed = wave_seed(config.run.seed, "eval", run.state.version, 0) if config.run.deterministic else None
    with watch("eval"):
        groups = await run.collector.sample(run.eval_prompts, sampling, seed)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    part = config.rewards.accuracy_part
    result = {
        "eval/accuracy": accuracy(rollouts, part),
        "eval/response_tokens": fmean(len(r.completion.token_ids) for r in rollouts),
        "eval/unscored": float(sum(r.right(part) is None for r in rollouts)),
    }
    counts = part_means(rollouts, config.rewards) | run.score_metrics()
    result |= {f"eval/{name}": value for name, value in counts.items()}
    run.metrics.log_eval(run.state.step, result)
    progress.evaluated(run.state.step, result)
