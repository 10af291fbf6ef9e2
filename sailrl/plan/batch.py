"""The numbers that follow from the batch settings, and their table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.table import Table

from sailrl.config.schema import RlvrConfig


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The derived batch numbers of one run. Tokens are upper bounds: every prompt and response at its limit."""

    group_size: int
    rollouts_per_episode: int
    rollouts_per_update: int
    passes_per_episode: int
    episodes: int
    prompts_per_episode: int
    """Groups that an episode learns from."""
    first_wave_prompts: int
    """Prompts that the first wave of an episode asks for, before dynamic sampling drops any."""
    groups_per_update: int
    updates_per_pass: int
    updates_per_episode: int
    updates: int
    """Of the whole run."""
    max_sequence_tokens: int
    """The longest prompt and the longest response."""
    max_tokens_per_episode: int
    """Prompt and response tokens of all rollouts of an episode, each counted once."""
    max_tokens_per_update: int
    max_microbatches_per_update: int
    """Forward and backward passes per learner rank when every sequence is as long as it can be."""
    ranks: int


def batch_plan(config: RlvrConfig) -> BatchPlan:
    """Derives the plan of a configuration that ``validate`` accepts."""
    batch, dynamic = config.batch, config.rollout.dynamic_sampling
    prompts = batch.rollouts_per_episode // batch.group_size
    updates_per_pass = batch.rollouts_per_episode // batch.rollouts_per_update
    longest = config.longest
    rollouts_per_rank = math.ceil(batch.rollouts_per_update / config.learner.ranks)
    return BatchPlan(
        group_size=batch.group_size,
        rollouts_per_episode=batch.rollouts_per_episode,
        rollouts_per_update=batch.rollouts_per_update,
        passes_per_episode=batch.passes_per_episode,
        episodes=batch.episodes,
        prompts_per_episode=prompts,
        first_wave_prompts=math.ceil(prompts * dynamic.oversample) if dynamic.enabled else prompts,
        groups_per_update=batch.rollouts_per_update // batch.group_size,
        updates_per_pass=updates_per_pass,
        updates_per_episode=updates_per_pass * batch.passes_per_episode,
        updates=updates_per_pass * batch.passes_per_episode * batch.episodes,
        max_sequence_tokens=longest,
        max_tokens_per_episode=batch.rollouts_per_episode * longest,
        max_tokens_per_update=batch.rollouts_per_update * longest,
        max_microbatches_per_update=math.ceil(
            rollouts_per_rank / (config.learner.max_tokens_per_microbatch // longest)
        ),
        ranks=config.learner.ranks,
    )


def other_reading(plan: BatchPlan) -> str | None:
    """How to get as many updates per episode with one pass: the other way to read the paper's numbers."""
    smaller, rest = divmod(plan.rollouts_per_update, plan.passes_per_episode)
    if plan.passes_per_episode == 1 or rest or smaller % plan.group_size:
        return None
    paper = (plan.rollouts_per_episode, plan.rollouts_per_update, plan.passes_per_episode) == (2048, 512, 2)
    other = (
        'SAIL-VL2 says "2048 rollouts, mini-batch 512, 8 gradient updates": 2048 / 512 = 4 updates, in 2 passes 8. The '
        "other reading is"
        if paper
        else "As many updates without a second look at any rollout:"
    )
    return (
        f"{other} one pass of {plan.updates_per_episode} updates of {smaller} rollouts: "
        f"batch.passes_per_episode=1 batch.rollouts_per_update={smaller}."
    )


def render(plan: BatchPlan) -> Table:
    """The plan as a table, each number with its arithmetic."""
    p = plan
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for what, number, because in (
        ("rollouts per episode", p.rollouts_per_episode, ""),
        (
            "prompts per episode",
            p.prompts_per_episode,
            f"{p.rollouts_per_episode:,} rollouts / groups of {p.group_size}",
        ),
        ("prompts in the first wave", p.first_wave_prompts, "prompts per episode x oversample"),
        ("rollouts per update", p.rollouts_per_update, ""),
        ("groups per update", p.groups_per_update, f"{p.rollouts_per_update:,} rollouts / groups of {p.group_size}"),
        (
            "updates per episode",
            p.updates_per_episode,
            f"{p.rollouts_per_episode:,} / {p.rollouts_per_update:,} = {p.updates_per_pass}, "
            f"x {p.passes_per_episode} {'pass' if p.passes_per_episode == 1 else 'passes'}",
        ),
        ("updates in all", p.updates, f"x {p.episodes:,} episodes"),
        ("tokens per rollout, at most", p.max_sequence_tokens, "prompt + response"),
        ("tokens per episode, at most", p.max_tokens_per_episode, f"x {p.rollouts_per_episode:,} rollouts"),
        ("tokens per update, at most", p.max_tokens_per_update, f"x {p.rollouts_per_update:,} rollouts"),
        (
            "micro-batches per update, at most",
            p.max_microbatches_per_update,
            f"on {'the one rank' if p.ranks == 1 else f'each of {p.ranks} ranks'}",
        ),
    ):
        table.add_row(what, f"{number:,}", because)
    return table
