"""Which parameters an engine did not receive: those whose old values explain what the engine says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from sailrl.learner.budget import Budget
from sailrl.learner.model import Policy
from sailrl.learner.ranks import gathered, placed
from sailrl.types import Prompt

_BLOCK = re.compile(r"(.*?layers|.*?blocks)\.(\d+)\.(\w+)")
MOST_BUNDLES, OPENED, ROUNDS = 64, 4, 3
"""Bundles of groups that are tested at most, how many of them group by group, and how often."""
EXPLAINED = 0.1  # a cause counts as found when testing for it removes nine tenths of the difference


def parameter_group(name: str) -> str:
    """``model.layers.3.self_attn.q_proj.weight`` -> ``model.layers.3.self_attn``; elsewhere the module's own name."""
    block = _BLOCK.match(name)
    return block.group(0) if block else name.removesuffix(".weight").removesuffix(".bias")


def explain(
    policy: Policy, prompt: Prompt, engine: Sequence[float], old: dict[str, torch.Tensor], budget: Budget
) -> list[str]:
    """Names of parameter groups that, set back to ``old``, make the learner compute what the engine did.

    All groups are tested together, then those of one kind (the attention of all layers, the vision tower), then bundles
    of neighbours, and the groups of the likeliest bundles alone. For small changes effects add up: which groups make
    the difference together is computed from their effects, and tested once more. What explains nine tenths of the
    difference is named, without what is not needed for it; an empty list means that nothing tested does. With tied
    embeddings the output layer counts as a group of its own (``lm_head``), since engines may hold a copy of it.

    Raises:
        BudgetSpent: before the search was over.
    """
    groups: dict[str, list[str]] = {}
    for name, parameter in policy.model.named_parameters():
        now = gathered(parameter.detach()).to(policy.dtype)  # rounded as what was published
        if name in old and not torch.equal(old[name].to(now), now):
            groups.setdefault(parameter_group(name), []).append(name)
    head_name = _tied_head(policy)

    @budget.counted
    def computed(chosen: Sequence[str]) -> torch.Tensor:
        names = [name for group in chosen for name in groups.get(group, ())]
        head = old[head_name].to(policy.device) if head_name and "lm_head" in chosen else None
        with _set_back(policy, names, old):
            return torch.tensor(policy.prompt_logprobs(prompt, head=head), dtype=torch.float64)

    everything = [*groups, *(["lm_head"] if head_name and parameter_group(head_name) in groups else [])]
    theirs, now = torch.tensor(engine, dtype=torch.float64), computed([])
    difference = theirs - now
    if not everything or not difference.any():
        return []

    def explains(chosen: Sequence[str]) -> bool:
        return bool((theirs - computed(chosen)).abs().max() <= EXPLAINED * difference.abs().max())

    for whole in (everything, *_kinds(everything, policy)):
        if explains(whole):
            return _needed(whole, explains)
    size = -(-len(everything) // max(1, min(MOST_BUNDLES, budget.allowed // 2)))
    parts = [everything[first : first + size] for first in range(0, len(everything), size)]
    effects = [computed(part) - now for part in parts]
    if size > 1:
        likeness = [float(difference @ effect / effect.norm().clamp(1e-12)) for effect in effects]
        likely = sorted(range(len(parts)), key=likeness.__getitem__)[-OPENED:]
        parts = [[group] for number in likely for group in parts[number]]
        effects = [computed(part) - now for part in parts]
    held, values = set[int](), now
    for again in range(ROUNDS):
        if again:  # where effects do not add up: those beside what is held
            effects = [computed(_groups(parts, held ^ {number})) - values for number in range(len(parts))]
        held ^= _fitting(theirs - values, effects)
        values = computed(_groups(parts, held))
        if (theirs - values).abs().max() <= EXPLAINED * difference.abs().max():
            return _needed(_groups(parts, held), explains)
    return []


def _groups(parts: Sequence[list[str]], numbers: set[int]) -> list[str]:
    return [group for number in sorted(numbers) for group in parts[number]]


def _kinds(groups: Sequence[str], policy: Policy) -> Iterator[list[str]]:
    """Groups of the same name in different layers, and all of the vision tower."""
    kinds: dict[str, list[str]] = {}
    for group in groups:
        part = policy.family.part(group)
        kind = re.sub(r"\.\d+\.", ".", group) if part == "language_model" else "vision"
        kinds.setdefault(kind, []).append(group)
    return (members for members in kinds.values() if len(members) > 1)


def _fitting(difference: torch.Tensor, effects: Sequence[torch.Tensor]) -> set[int]:
    """Numbers of the effects whose sum comes nearest to the difference: each is added, or taken out again, as long as
    one of these reduces the sum."""
    chosen, left = set[int](), difference
    while True:
        signs = [-1.0 if number in chosen else 1.0 for number in range(len(effects))]
        lengths = [float((left - sign * effect).norm()) for sign, effect in zip(signs, effects, strict=True)]
        best = min(range(len(effects)), key=lengths.__getitem__)
        if lengths[best] >= float(left.norm()):
            return chosen
        left = left - signs[best] * effects[best]
        chosen ^= {best}


def _needed(groups: list[str], explains: Callable[[list[str]], bool]) -> list[str]:
    """Groups that explain the difference, less each half, quarter and eighth of them that they do so without."""
    for parts in (2, 4, 8):
        size, first = -(-len(groups) // parts), 0
        while size < len(groups) and first < len(groups):
            rest = groups[:first] + groups[first + size :]
            if explains(rest):
                groups = rest
            else:
                first += size
    return groups


def _tied_head(policy: Policy) -> str | None:
    head = policy.model.get_output_embeddings().weight
    embedding = policy.model.get_input_embeddings().weight
    if head is not embedding:
        return None
    return next(name for name, parameter in policy.model.named_parameters() if parameter is embedding)


@contextmanager
def _set_back(policy: Policy, names: Sequence[str], old: dict[str, torch.Tensor]) -> Iterator[None]:
    parameters = dict(policy.model.named_parameters())
    now = {name: parameters[name].detach().clone() for name in names}
    with torch.no_grad():
        for name in names:
            parameters[name].copy_(placed(old[name], parameters[name]))
    try:
        yield
    finally:
        with torch.no_grad():
            for name in names:
                parameters[name].copy_(now[name])
