"""The numbers of one episode: advantages of its groups, and the metrics that all its lines have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch

from sailrl.algos.advantages import decoupled_advantages, group_advantages
from sailrl.algos.clip import ClipController, ClipRange, Signal
from sailrl.config.losses import Algorithm, Sapo, Vespo
from sailrl.config.rewards import RewardsConfig
from sailrl.errors import ConfigError
from sailrl.rl.checkpoints import RunState
from sailrl.rollout.collect import Collection
from sailrl.types import Group, Rollout, accuracy


def advantages(groups: Sequence[Group], algorithm: Algorithm, rewards: RewardsConfig) -> list[list[float]]:
    """One advantage per rollout, by group; 0 for a rollout without a reward."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    ids = torch.tensor([i for i, group in enumerate(groups) for _ in group.rollouts])
    if algorithm.normalize_each:
        parts = {name: part.weight for name, part in rewards.parts.items() if part.weight}
        scores = [[math.nan if r.reward is None else r.scores[name].value for name in parts] for r in rollouts]
        weights = torch.tensor(list(parts.values()), dtype=torch.float64)
        found = decoupled_advantages(torch.tensor(scores, dtype=torch.float64), weights, ids)
    else:
        totals = torch.tensor([math.nan if r.reward is None else r.reward for r in rollouts], dtype=torch.float64)
        found = group_advantages(totals, ids, normalize_std=algorithm.normalize_std)
    values = iter(found.tolist())
    return [[next(values) for _ in group.rollouts] for group in groups]


def episode_metrics(episode: Collection, state: RunState, rewards: RewardsConfig) -> dict[str, float]:
    """The metrics that all lines of an episode have.

    Rewards, accuracy and lengths are over **all** groups sampled, dropped ones too: kept groups are
    selected for having both right and wrong answers, so their accuracy is not the policy's. Staleness is over kept
    groups.
    """
    groups = [*episode.kept, *(group for group, _ in episode.dropped)]
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    ages = [state.version - r.completion.version for group in episode.kept for r in group.rollouts]
    lengths = [len(r.completion.token_ids) for r in rollouts]
    right = accuracy(rollouts, rewards.accuracy_part)
    values = {
        "episode": state.episode,
        "version": state.version,
        "reward/mean": _mean(r.reward for r in rollouts),
        "accuracy": math.nan if right is None else right,
        "response_tokens/mean": fmean(lengths),
        "response_tokens/max": max(lengths),
        "truncated_fraction": fmean(r.completion.finish_reason == "length" for r in rollouts),
        "unscored_fraction": fmean(r.reward is None for r in rollouts),
        "staleness/max": max(ages),
        "staleness/mean": fmean(ages),
    }
    values |= part_means(rollouts, rewards)
    return {key: float(value) for key, value in values.items()} | episode.metrics()


def part_means(rollouts: Sequence[Rollout], rewards: RewardsConfig) -> dict[str, float]:
    """``reward/<name>``: the mean score of each part, partial credit included, over the responses that have one."""
    return {f"reward/{name}": _mean(r.scores[name].value for r in rollouts) for name in rewards.parts}


def clip_controller(algorithm: Algorithm, saved: Mapping[str, Any] | None = None) -> ClipController:
    """The controller of the clip range, with the state of a checkpoint; an infinite range for algorithms without one.

    Args:
        saved: ``ClipController.state_dict`` of the checkpoint.

    Raises:
        ConfigError: the checkpoint's bound lies outside the configured range.
    """
    if isinstance(algorithm, Sapo | Vespo):
        return ClipController(mode="asymmetric", low=math.inf, high=math.inf)
    controller = ClipController(**algorithm.clip.model_dump())
    if saved and controller.mode != "asymmetric":  # fixed bounds are those of the configuration
        try:
            controller.load_state_dict(dict(saved))
        except ValueError as error:
            raise ConfigError(
                f"algorithm.clip does not fit the checkpoint: {error}. Set the range back, or start a "
                "new run with another run.dir."
            ) from None
    return controller


_SIGNALS: dict[Signal, str] = {"entropy": "entropy", "clip_fraction": "clip/high_fraction", "approx_kl": "approx_kl"}


def clip_signal(signal: Signal, updates: Sequence[Mapping[str, float]]) -> float:
    """The mean of a signal over the tokens of an episode's updates."""
    total = sum(learned["tokens"] for learned in updates)
    return sum(learned[_SIGNALS[signal]] * learned["tokens"] for learned in updates) / total


def update_metrics(learned: Mapping[str, float], clip: ClipRange) -> dict[str, float | None]:
    """The metrics of one update: the learner's, and the clip range it used (null where there is no clip)."""
    bounds = {"clip/low": clip.low, "clip/high": clip.high}
    shares = dict.fromkeys(("clip/low_fraction", "clip/high_fraction"))
    return {
        **shares,
        **{name: value for name, value in learned.items() if name != "tokens"},
        **{name: value if math.isfinite(value) else None for name, value in bounds.items()},
    }


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return fmean(known) if known else math.nan
