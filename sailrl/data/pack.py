"""Which samples go through the model together: micro-batches under a token budget, and the shares of learner ranks.

Rollouts of one prompt share it, and every distinct prompt of a micro-batch is read once, as the vision tower runs once
per distinct image: so they stay together where they fit. Loads are balanced in two currencies, language tokens and
distinct image tokens, because tower and language model run one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from sailrl.data.batch import Sample

AGAIN = 8
"""A prompt costs an eighth of its tokens again for every further sample that shares it: attention looks its keys and
values up once per sample and keeps them for the backward pass; all else is done once."""


def micro_batches(samples: Sequence[Sample], max_tokens: int) -> list[list[int]]:
    """Splits samples into balanced micro-batches of at most ``max_tokens`` tokens, where a prompt counts once in full
    (see ``AGAIN``); a longer sample goes alone.

    As many as first-fit decreasing needs; longest first, so that what does not fit shows in the first pass. Returns
    positions in ``samples``; every one appears exactly once.
    """
    clusters = _clusters(samples, max_tokens)
    bins: list[list[int]] = []
    room: list[int] = []
    for number, rows in enumerate(clusters):
        tokens = _load(samples, rows)[0]
        fits = next((i for i, free in enumerate(room) if tokens <= free), len(bins))
        if fits == len(bins):
            bins.append([])
            room.append(max_tokens)
        bins[fits].append(number)
        room[fits] -= tokens
    balanced = _balance(samples, clusters, len(bins), max_tokens)
    return _flatten(clusters, bins if balanced is None else balanced)


def deal(samples: Sequence[Sample], ranks: int) -> list[list[int]]:
    """Shares samples out over ``ranks``, balanced. Returns each rank's positions in ``samples``, some maybe none."""
    total = sum(sample.length for sample in samples)
    # A cluster as large as a rank's share leaves nothing to balance with.
    share = sum(_load(samples, rows)[0] for rows in _clusters(samples, total)) // (4 * ranks)
    clusters = _clusters(samples, share)
    dealt = _balance(samples, clusters, ranks, total)
    assert dealt is not None  # everything would fit in one
    return _flatten(clusters, dealt)


def deal_updates(samples: Sequence[Sample], updates: Sequence[Sequence[int]], ranks: int) -> list[list[int]]:
    """Shares an episode out so that each of its updates is balanced: ranks wait for one another at every one.

    Args:
        updates: positions in ``samples`` of each update. In later passes they stay where the first has put them.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    dealt: set[int] = set()
    for rows in updates:
        fresh = [row for row in rows if row not in dealt]
        dealt.update(fresh)
        for share, places in zip(shares, deal([samples[row] for row in fresh], ranks), strict=True):
            share.extend(fresh[place] for place in places)
    return shares


def _flatten(clusters: list[list[int]], bins: list[list[int]]) -> list[list[int]]:
    return [[row for number in numbers for row in clusters[number]] for numbers in bins]


def _clusters(samples: Sequence[Sample], max_tokens: int) -> list[list[int]]:
    """Samples with the same images, and samples without any with the same prompt, as many as the budget takes, prompt
    after prompt. Longest first."""
    prompts: dict[Hashable, list[int]] = {}
    for row in sorted(range(len(samples)), key=lambda i: (-samples[i].length, i)):
        prompts.setdefault(samples[row].prompt, []).append(row)
    clusters: list[list[int]] = []
    open_ones: dict[Hashable, tuple[list[int], int]] = {}
    for prompt, rows in prompts.items():
        key = samples[rows[0]].images or prompt
        cluster, tokens = open_ones.get(key, ([], max_tokens))
        more = _load(samples, rows)[0]
        # A prompt's rollouts that fit together, but not here, begin again.
        fits = tokens + more <= max_tokens or more > max_tokens
        for row in rows:
            further = samples[row].length if row == rows[0] else _further(samples[row])
            if not fits or tokens + further > max_tokens:
                cluster, tokens, fits, further = [], 0, True, samples[row].length
                clusters.append(cluster)
            cluster.append(row)
            tokens += further
        open_ones[key] = cluster, tokens
    return sorted(clusters, key=lambda rows: (-_load(samples, rows)[0], rows[0]))


def _load(samples: Sequence[Sample], rows: Sequence[int]) -> tuple[int, int]:
    """Language tokens, image places included and shared prompts as in ``AGAIN``, and image tokens that the tower has to
    make."""
    tokens, seen = 0, set[Hashable]()
    for row in rows:
        prompt = samples[row].prompt
        tokens += _further(samples[row]) if prompt in seen else samples[row].length
        seen.add(prompt)
    return tokens, samples[rows[0]].image_tokens


def _further(sample: Sample) -> int:
    """What a sample adds to a row that has its prompt."""
    return len(sample.response_ids) + math.ceil(len(sample.prompt_ids) / AGAIN)


def _balance(
    samples: Sequence[Sample], clusters: list[list[int]], count: int, max_tokens: int
) -> list[list[int]] | None:
    """Clusters over ``count`` bins, the largest first, each to the bin where the load of its kind is then least; None
    when the budget leaves no place for one. A cluster over the budget gets a bin to itself."""
    loads = np.array([_load(samples, rows) for rows in clusters], dtype=float).reshape(-1, 2)
    shares = loads / np.maximum(loads.sum(axis=0), 1)
    bins: list[list[int]] = [[] for _ in range(count)]
    tokens, held = np.zeros(count), np.zeros((count, 2))
    for number in sorted(range(len(clusters)), key=lambda i: (-shares[i].max(), i)):
        fits = (tokens == 0) | (tokens + loads[number, 0] <= max_tokens)
        if not fits.any():
            return None
        after = np.where(shares[number] > 0, held + shares[number], 0).max(axis=1)
        best = int(np.where(fits, after, np.inf).argmin())
        bins[best].append(number)
        tokens[best] += loads[number, 0]
        held[best] += shares[number]
    return bins
