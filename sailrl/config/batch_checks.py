"""Rules about model, problems, rewards and batch sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sailrl.config.base import Plugin
from sailrl.config.complaint import Complaint, Rule, Rules
from sailrl.config.filtering import FilterConfig
from sailrl.config.rewards import WEIGHTED, RewardsConfig
from sailrl.config.schema import BatchConfig, EvalConfig, ModelConfig, RlvrConfig, SourceConfig
from sailrl.families import EXAMPLE


def _one_origin(truth: str, code: str, example: str) -> Rule:
    """A section has either a path or, under the key ``code``, code that makes what would lie there."""

    def rule(section: ModelConfig | SourceConfig) -> Iterator[Complaint]:
        made = getattr(section, code) is not None
        if section.path is not None and made:
            yield Complaint(("path",), f"is {section.path!r}, but {code} is given too; {truth}. Remove one of the two.")
        if section.path is None and not made:
            yield Complaint((), f"says neither path nor {code}; {truth}. Write for example `path: {example}`.")

    return rule


def _adapters_come_alone(model: ModelConfig) -> Iterator[Complaint]:
    if model.lora is not None and model.freeze:
        yield Complaint(
            ("freeze",),
            f"is {list(model.freeze)} and lora is set, but with lora the whole model is frozen and only the adapter "
            "learns. Remove freeze, and choose with lora.target_modules where there is an adapter.",
        )


def _regex_has_a_group(source: SourceConfig) -> Iterator[Complaint]:
    if source.answer_regex is None:
        return
    try:
        groups = re.compile(source.answer_regex).groups
    except re.error as error:
        yield Complaint(("answer_regex",), f"is {source.answer_regex!r}, which is no regular expression: {error}.")
        return
    if groups == 0:
        yield Complaint(
            ("answer_regex",),
            f"is {source.answer_regex!r}, which has no group, but the answer is what its first group matches. "
            "Put the answer's part in parentheses: '####\\s*(.+)'.",
        )


def _rows_are_drawn_for_a_limit(source: SourceConfig) -> Iterator[Complaint]:
    if source.shuffle is not None and source.limit is None:
        yield Complaint(
            ("shuffle",),
            "is set, but limit is not: it says which rows a limit takes, and training draws all problems at random "
            "anyway. Remove it, or write limit.",
        )


def _held_out_once(config: RlvrConfig) -> Iterator[Complaint]:
    if config.data.held_out is not None and config.data.eval is not None:
        yield Complaint(
            ("data", "held_out"),
            f"is {config.data.held_out:g}, but data.eval has the problems to evaluate on. Remove one of the two.",
        )


def _eval_has_problems(config: RlvrConfig) -> Iterator[Complaint]:
    if config.data.eval is None and config.data.held_out is None and config.eval != EvalConfig():
        yield Complaint(
            ("eval",),
            "is set, but data.eval is not, so there are no held-out problems to evaluate on. "
            "Write for example `eval: {path: data/held_out.jsonl}` or `held_out: 0.02` under data, or remove the "
            "section eval.",
        )


def _a_reward_has_a_weight(config: RlvrConfig) -> Iterator[Complaint]:
    rewards = config.rewards
    if rewards and rewards.combine == Plugin(use=WEIGHTED) and not any(part.weight for part in rewards.parts.values()):
        first, *others = rewards.parts
        yield Complaint(
            ("rewards", "parts", first, "weight"),
            f"is 0{', as are all other weights' if others else ''}, so every reward would be 0 and the run would learn "
            "nothing. Write weight: 1.0.",
        )


def _accuracy_is_no_penalty(rewards: RewardsConfig) -> Iterator[Complaint]:
    name = rewards.accuracy_part
    if rewards.parts[name].penalty:
        others = [other for other, part in rewards.parts.items() if not part.penalty]
        yield Complaint(
            ("accuracy",),
            f"is the part {name!r}{'' if rewards.accuracy else ' (the first one)'}, which is a penalty, but dynamic "
            "sampling and evaluation need the part that says whether an answer is right. "
            f"Write accuracy: {others[0] if others else '<a part that is no penalty>'}.",
        )


def _same_response_limit(config: RlvrConfig | FilterConfig) -> Iterator[Complaint]:
    limit = config.rollout.max_response_tokens
    for name, part in config.rewards.parts.items() if config.rewards else ():
        given = part.args.get("max_response_tokens", limit)
        if given != limit:
            yield Complaint(
                ("rewards", "parts", name, "args", "max_response_tokens"),
                f"is {given} and rollout.max_response_tokens is {limit}, but a reward that looks at the limit must "
                f"know the real one. Write max_response_tokens: {limit} here, too.",
            )


def _whole_groups(batch: BatchConfig) -> Iterator[Complaint]:
    g, e, u = batch.group_size, batch.rollouts_per_episode, batch.rollouts_per_update
    if e % g:
        yield Complaint(
            ("rollouts_per_episode",),
            f"is {e} and group_size is {g}, which makes {e / g:.4g} groups, but an episode holds whole groups. "
            f"Write rollouts_per_episode: {_or(_multiples_near(e, g if u % g else u))}.",
        )
    if u % g:
        yield Complaint(
            ("rollouts_per_update",),
            f"is {u} and group_size is {g}, which makes {u / g:.4g} groups, but an update takes whole groups. "
            f"Write rollouts_per_update: {_or(_updates_near(u, g, e) or _multiples_near(u, g))}.",
        )
    elif e % u and not e % g:
        updates = _updates_near(u, g, e)
        yield Complaint(
            ("rollouts_per_update",),
            f"is {u} and rollouts_per_episode is {e}, which makes {e / u:.4g} updates, but a pass over an episode is "
            f"a whole number of updates. Write rollouts_per_episode: {_or(_multiples_near(e, u))}"
            f"{f', or rollouts_per_update: {_or(updates)}' if updates else ''}.",
        )


def _multiples_near(number: int, step: int) -> list[int]:
    below = number // step * step
    return [n for n in (below, below + step) if n > 0]


def _updates_near(update: int, group: int, episode: int) -> list[int]:
    """The largest valid update below and the smallest above: divisors of the episode that hold whole groups."""
    valid = [n for n in range(group, episode + 1, group) if episode % n == 0]
    return [n for n in valid if n < update][-1:] + [n for n in valid if n > update][:1]


def _or(numbers: list[int]) -> str:
    return " or ".join(map(str, numbers))


def _microbatch_holds_one(config: RlvrConfig) -> Iterator[Complaint]:
    budget, longest = config.learner.max_tokens_per_microbatch, config.longest
    if budget < longest:
        yield Complaint(
            ("learner", "max_tokens_per_microbatch"),
            f"is {budget}, but the longest sequence has {longest} tokens ({config.data.max_prompt_tokens} of "
            f"data.max_prompt_tokens and {config.rollout.max_response_tokens} of rollout.max_response_tokens), and a "
            f"micro-batch holds at least one. Write max_tokens_per_microbatch: {longest}, or lower one of the limits.",
        )


BATCH_RULES: Rules = [
    (ModelConfig, _one_origin("a policy has one origin", "build", EXAMPLE)),
    (ModelConfig, _adapters_come_alone),
    (SourceConfig, _one_origin("problems have one origin", "generate", "data/problems.jsonl")),
    (SourceConfig, _regex_has_a_group),
    (SourceConfig, _rows_are_drawn_for_a_limit),
    (RlvrConfig, _held_out_once),
    (RlvrConfig, _eval_has_problems),
    (RewardsConfig, _accuracy_is_no_penalty),
    (RlvrConfig, _a_reward_has_a_weight),
    (RlvrConfig, _same_response_limit),
    (FilterConfig, _same_response_limit),
    (BatchConfig, _whole_groups),
    (RlvrConfig, _microbatch_holds_one),
]
