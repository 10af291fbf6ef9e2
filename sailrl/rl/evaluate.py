"""Accuracy on held-out problems, with the weights that the engines hold now."""

from __future__ import annotations

from statistics import fmean

from sailrl.config.schema import RlvrConfig
from sailrl.report.progress import Progress
from sailrl.report.timing import Stopwatch
from sailrl.rl.session import Session
from sailrl.rollout.collect import wave_seed
from sailrl.rollout.engine import Sampling


async def evaluate(config: RlvrConfig, run: Session, watch: Stopwatch, progress: Progress) -> None:
    """Samples every held-out problem and logs ``eval/accuracy`` and ``eval/response_tokens``.

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
    values = [r.scores[config.rewards.accuracy_part].value for r in rollouts]
    scored = [value for value in values if value is not None]
    result = {
        "eval/accuracy": fmean(scored) if scored else None,
        "eval/response_tokens": fmean(len(r.completion.token_ids) for r in rollouts),
        "eval/unscored": float(len(values) - len(scored)),
    }
    run.metrics.log_eval(run.state.step, result)
    progress.evaluated(run.state.step, result)
