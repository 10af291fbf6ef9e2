"""Which parameters an engine did not receive: those whose old values explain what the engine says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from sailrl.learner.model import Policy
from sailrl.learner.ranks import gathered, placed
from sailrl.types import Prompt

_BLOCK = re.compile(r"(.*?layers|.*?blocks)\.(\d+)\.(\w+)")
EXPLAINED = 0.1  # a group counts as stale when putting its old values in removes nine tenths of the difference


def parameter_group(name: str) -> str:
    """``model.layers.3.self_attn.q_proj.weight`` -> ``model.layers.3.self_attn``; elsewhere the module's own name."""
    block = _BLOCK.match(name)
    return block.group(0) if block else name.removesuffix(".weight").removesuffix(".bias")


def explain(policy: Policy, prompt: Prompt, engine: Sequence[float], old: dict[str, torch.Tensor]) -> list[str]:
    """Names of parameter groups that, set back to ``old``, bring the learner to what the engine computed.

    Groups are added greedily, the most telling first, until nine tenths of the difference are explained; where that
    leads nowhere all of them are tried at once, since an engine may have received nothing. An empty list means that
    old values do not explain it. With tied embeddings the output layer counts as a group of its own (``lm_head``),
    since engines may hold a copy of it.
    """
    groups: dict[str, list[str]] = {}
    for name, parameter in policy.model.named_parameters():
        if name in old and not torch.equal(old[name].to(policy.device), gathered(parameter).to(policy.device)):
            groups.setdefault(parameter_group(name), []).append(name)
    head_name = _tied_head(policy)

    def error(chosen: list[str]) -> float:
        names = [name for group in chosen for name in groups.get(group, ())]
        head = old[head_name].to(policy.device) if head_name and "lm_head" in chosen else None
        with _set_back(policy, names, old):
            mine = policy.prompt_logprobs(prompt, head=head)
        return max(abs(a - b) for a, b in zip(mine, engine, strict=True))

    everything = [*groups, *(["lm_head"] if head_name in old else [])]
    candidates, chosen = list(everything), list[str]()
    start = best = error([])
    while best > EXPLAINED * start and candidates:
        errors = {group: error([*chosen, group]) for group in candidates}
        group = min(errors, key=lambda g: errors[g])
        if errors[group] >= best:
            break
        best = errors[group]
        chosen.append(group)
        candidates.remove(group)
    if best <= EXPLAINED * start:
        return chosen
    return everything if error(everything) <= EXPLAINED * start else []


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
