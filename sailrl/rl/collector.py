"""The collector that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sailrl.config.schema import RlvrConfig
from sailrl.data.sampler import ShufflingSampler
from sailrl.rollout.collect import Collector, ScoreFn
from sailrl.rollout.engine import Pool, Sampling
from sailrl.rollout.stream import StreamCollector
from sailrl.types import Prompt


def build_collector(
    config: RlvrConfig, prompts: Sequence[Prompt], pool: Pool, score: ScoreFn, sampling: Sampling
) -> Collector:
    """Waves where generating and learning take turns, a stream where they overlap (``rollout.max_staleness``)."""
    rollout = config.rollout
    kind: Callable[..., Collector] = Collector
    if rollout.max_staleness:
        kind = partial(StreamCollector, max_staleness=rollout.max_staleness)
    return kind(
        prompts,
        ShufflingSampler(len(prompts), config.run.seed),
        pool,
        score,
        sampling=sampling,
        settings=rollout.dynamic_sampling,
        accuracy=config.rewards.accuracy_part,
        max_unscored_rate=config.rewards.max_unscored_rate,
        seed=config.run.seed if config.run.deterministic else None,
    )
