"""Why engine and learner disagree, found by testing: every cause is a change to the learner that would make it compute
what the engine computed, and a cause is named when it removes nine tenths of the difference.

The functions here work on one process's policy and a few samples; ``rl.diagnosis`` asks them in order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sailrl.data.batch import Batch, Sample, collate
from sailrl.learner.budget import Budget
from sailrl.learner.model import Policy
from sailrl.learner.stale import EXPLAINED, parameter_group
from sailrl.types import Prompt

TOP_P = (0.99, 0.95, 0.9, 0.8, 0.7, 0.5)
TOP_K = (1, 2, 5, 10, 20, 50, 100)
TEMPERATURES = tuple(round(0.1 * step, 1) for step in range(1, 21))
MOST_EXPERTS_TO_SWAP = 16
"""With more experts only orders of all of them are tried: pairs grow with the square."""
ROUNDING = 1e-5
"""Nats that float32 may differ by: nothing to explain."""
LONGEST_CUT = 16
"""Tokens at either end of a prompt that the engine may have had too few of."""
PROMPTS = 3
"""Samples on which other prompts are tried: each costs a forward pass."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a search for a cause has come to."""

    causes: tuple[str, ...] = ()
    """In words; each one makes the learner compute what the engine computed, or is a difference between bytes."""
    same_bytes: bool = False
    """The folder of the published weights holds the learner's, byte for byte."""
    passes: int = 0
    """Forward passes that the search has taken."""
    complete: bool = True
    """False where the passes that fit into its time were spent before it was over."""


def explain_sampling(policy: Policy, samples: Sequence[Sample]) -> str | None:
    """Names a temperature, nucleus or top-k that the engine applied and the learner does not; None when none does."""
    temperature = policy.temperature
    logits, targets, engine = _rows(policy, samples)

    def error(values: Tensor) -> float:
        return float((_chosen(values, targets) - engine).abs().mean())

    start = error(logits / temperature)
    asked: list[tuple[float, str]] = []
    for other in {*TEMPERATURES, round(_best_temperature(error, logits), 2)} - {temperature}:
        text = (
            f"temperature is not the same on both sides: the engine's log-probabilities are those of temperature "
            f"{other:g}, the learner applies {temperature:g}"
        )
        asked.append((error(logits / other), text))
    for k in TOP_K:
        text = f"the engine samples among the top {k} tokens (top_k), the learner among all"
        asked.append((error(_top_k(logits / temperature, k)), text))
    # The least nucleus mass that renormalised a token is the mass that was asked for, or it selects the same tokens.
    mass = math.exp(-float((engine - _chosen(logits / temperature, targets)).max()))
    for p in (*TOP_P, min(round(mass, 4), 0.9999)):
        text = f"top-p is on: the engine samples from a nucleus of {p:g}, the learner from all tokens"
        asked.append((error(_top_p(logits / temperature, p)), text))
    best, text = min(asked)
    return text if best <= EXPLAINED * start and start > ROUNDING else None


def explain_prompt(
    policy: Policy, samples: Sequence[Sample], engine_prompts: Sequence[Sequence[int]], budget: Budget
) -> str | None:
    """Names a difference between the prompts that the engine answered and those that the learner trains on.

    Args:
        engine_prompts: per sample, the ids that were handed to the engine. Samples with images are left out, since
            engines take one placeholder per image and the learner one per feature; of the others a few are enough.

    Raises:
        BudgetSpent: before all was tried.
    """
    samples, engine_prompts = _without_images(samples, engine_prompts)
    samples, engine_prompts = samples[:PROMPTS], engine_prompts[:PROMPTS]
    if not samples:
        return None
    logp = budget.counted(policy)

    def error(samples: Sequence[Sample]) -> float:
        return _distance(logp, _alone(policy, samples))

    start = error(samples)
    if start <= ROUNDING:
        return None
    other = [replace(s, prompt_ids=np.asarray(ids, np.int32)) for s, ids in zip(samples, engine_prompts, strict=True)]
    if error(other) <= EXPLAINED * start:
        return (
            "template differs: the engine was given other prompt ids than the learner trains on, and they explain its "
            "log-probabilities"
        )
    shortest = min(len(s.prompt_ids) for s in samples)
    for cut in range(1, min(LONGEST_CUT, shortest - 1) + 1):
        for where, part in (("first", slice(cut, None)), ("last", slice(None, -cut))):
            short = [replace(s, prompt_ids=s.prompt_ids[part]) for s in samples]
            if error(short) <= EXPLAINED * start:
                return (
                    f"template differs: the engine answered prompts without the {where} {cut} tokens of those that the "
                    "learner trains on"
                )
    return None


def _without_images(
    samples: Sequence[Sample], engine_prompts: Sequence[Sequence[int]]
) -> tuple[list[Sample], list[Sequence[int]]]:
    kept = [(s, ids) for s, ids in zip(samples, engine_prompts, strict=True) if not s.images]
    return [s for s, _ in kept], [ids for _, ids in kept]


def explain_experts(policy: Policy, prompt: Prompt, engine: Sequence[float], budget: Budget) -> list[str]:
    """Layers whose experts the engine has in another order, in words; empty when no order explains its numbers.

    A permutation of experts is a permutation of what the router asks for, so nothing is copied. Tried are all experts
    reversed or shifted by one, in one layer or in all, and, with few experts, exchanges of two, one after another.

    Raises:
        BudgetSpent: before all was tried.
    """
    routers = policy.routers
    theirs = torch.tensor(engine)

    @budget.counted
    def error(orders: dict[int, Tensor]) -> float:
        with routers.permuted(orders):
            return float((torch.tensor(policy.prompt_logprobs(prompt)) - theirs).abs().mean())

    count = routers.experts
    start = error({}) if count else 0.0
    if not start:
        return []
    whole = torch.arange(count)
    orders = {"in reverse": whole.flip(0), "shifted by one": whole.roll(1), "shifted back by one": whole.roll(-1)}
    layers = range(len(routers.names))
    for words, order in orders.items():
        for chosen in ([layer] for layer in layers), [list(layers)]:
            for some in chosen:
                if error(dict.fromkeys(some, order)) <= EXPLAINED * start:
                    return [f"experts {words} in {_block(routers.names[layer])}" for layer in some]
    if count > MOST_EXPERTS_TO_SWAP:
        return []
    return _exchanges(error, start, count, routers.names)


def _exchanges(
    error: Callable[[dict[int, Tensor]], float], start: float, count: int, names: Sequence[str]
) -> list[str]:
    """Exchanges of two experts, the most telling first, until the difference is explained."""
    found: dict[int, Tensor] = {}
    best = start
    for _ in range(len(names) * (count - 1)):
        tried = []
        for layer, (a, b) in itertools.product(range(len(names)), itertools.combinations(range(count), 2)):
            order = found.get(layer, torch.arange(count)).clone()
            order[[a, b]] = order[[b, a]]
            tried.append((error(found | {layer: order}), layer, order))
        value, layer, order = min(tried, key=lambda one: one[0])
        if value >= best:
            return []
        best = value
        found[layer] = order
        if best <= EXPLAINED * start:
            return [f"experts permuted in {_block(names[one])} (order {found[one].tolist()})" for one in sorted(found)]
    return []


def compare_weights(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """What differs between two sets of weights with the same names, group by group, in words."""
    found: dict[str, str] = {}
    for name, own in mine.items():
        other = theirs.get(name)
        group = parameter_group(name)
        if other is None or other.shape != own.shape:
            found[group] = f"{group} is missing or has another shape"
        elif not torch.equal(own.to(other), other):
            order = _order(own.to(other), other) if ".experts." in name else None
            words = f"{group} differs" if order is None else f"experts permuted in {group} (order {order})"
            found.setdefault(group, words)
    return list(found.values())


def _order(own: Tensor, other: Tensor) -> list[int] | None:
    """The order in which ``other`` has the experts of ``own``; None when it has others."""
    order = [next((j for j in range(len(own)) if torch.equal(own[j], expert)), None) for expert in other]
    return None if None in order or len(set(order)) < len(order) else [int(j) for j in order if j is not None]


def _block(router: str) -> str:
    return router.rpartition(".")[0]


def _chosen(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.log_softmax(-1).gather(1, targets)[:, 0]


def _best_temperature(error: Callable[[Tensor], float], logits: Tensor) -> float:
    """Golden-section search over log T between 0.05 and 20."""
    low, high, golden = math.log(0.05), math.log(20.0), (math.sqrt(5) - 1) / 2
    for _ in range(30):
        a, b = high - golden * (high - low), low + golden * (high - low)
        if error(logits / math.exp(a)) < error(logits / math.exp(b)):
            high = b
        else:
            low = a
    return math.exp((low + high) / 2)


def _top_k(logits: Tensor, k: int) -> Tensor:
    if k >= logits.shape[-1]:
        return logits
    return logits.masked_fill(logits < logits.topk(k).values[:, -1:], -torch.inf).nan_to_num(neginf=-1e4)


def _top_p(logits: Tensor, p: float) -> Tensor:
    ordered, index = logits.sort(descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    return torch.full_like(logits, -1e4).scatter(1, index, ordered.masked_fill(before >= p, -1e4))


@torch.no_grad()
def _rows(policy: Policy, samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """``(logits [N, V], targets [N, 1], engine log-probs [N])`` of all response tokens, before temperature."""
    batches = _alone(policy, samples)
    logits = torch.cat([policy.response_logits(batch) for batch in batches])
    targets = torch.cat([batch.targets for batch in batches])
    return logits, targets[:, None], torch.cat([batch.engine_logp[batch.mask] for batch in batches])


@torch.no_grad()
def _distance(policy: Callable[[Batch], tuple[Tensor, Tensor]], batches: Sequence[Batch]) -> float:
    differences = [(policy(batch)[0] - batch.engine_logp)[batch.mask] for batch in batches]
    return float(torch.cat(differences).abs().mean())


def _alone(policy: Policy, samples: Sequence[Sample]) -> list[Batch]:
    """One batch per sample: not every model takes several at once, and these are a handful."""
    return [collate([sample]).to(policy.device) for sample in samples]
