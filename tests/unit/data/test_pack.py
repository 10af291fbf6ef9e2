"""Packing: every sample once, within the budget, balanced, and rollouts of one image together."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from math import ceil

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sailrl.data.batch import Sample
from sailrl.data.pack import deal, deal_updates, micro_batches

NO_LOGP = np.zeros(0, np.float32)
_NUMBERS = itertools.count(100)


def sample(length: int, image: str = "", image_tokens: int = 0, *, prompt: int | None = None) -> Sample:
    """``length`` tokens in all. Rollouts with the same image name see the same image, of whose tokens their prompt is;
    prompts without one have one token. Those with the same number and image are the same."""
    ids = np.zeros(max(1, image_tokens), np.int32) + (next(_NUMBERS) if prompt is None and not image else prompt or 0)
    response = np.zeros(length - len(ids), np.int32)
    return Sample(ids, response, NO_LOGP, 0.0, images=(image,) if image else (), image_tokens=image_tokens)


def of(lengths: list[int]) -> list[Sample]:
    """Samples without images, each with a prompt of its own."""
    return [sample(length) for length in lengths]


def tokens_of(samples: list[Sample], rows: list[int]) -> int:
    """What goes through the language model: every distinct prompt once, and an eighth again for each further sample."""
    prompts: dict[Hashable, list[int]] = {}
    for row in rows:
        prompts.setdefault(samples[row].prompt, []).append(len(samples[row].prompt_ids))
    again = sum(ceil(sizes[0] / 8) * (len(sizes) - 1) for sizes in prompts.values())
    return sum(sizes[0] for sizes in prompts.values()) + again + sum(len(samples[row].response_ids) for row in rows)


@st.composite
def mixed(draw: st.DrawFn) -> list[Sample]:
    """Samples of 1 to 50 tokens, some of which share one of four images of 5 to 20, some a prompt without any."""
    rows = draw(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 4), st.integers(0, 3)), max_size=60))
    return [
        sample(max(n, 5 * i), f"image {i}", 5 * i, prompt=prompt) if i else sample(n, prompt=prompt or None)
        for n, i, prompt in rows
    ]


@given(mixed(), st.integers(1, 200))
def test_every_sample_is_in_one_micro_batch_within_the_budget(samples: list[Sample], budget: int) -> None:
    split = micro_batches(samples, budget)
    assert sorted(row for rows in split for row in rows) == list(range(len(samples)))
    for rows in split:
        assert rows
        assert tokens_of(samples, rows) <= budget or len(rows) == 1


@given(mixed(), st.integers(50, 200))
def test_micro_batches_are_few(samples: list[Sample], budget: int) -> None:
    """First fit leaves at most one bin half empty, so they are fewer than twice what tokens ask for, plus one."""
    tokens = sum(s.length for s in samples)
    assert len(micro_batches(samples, budget)) <= 2 * tokens / budget + 1


def test_micro_batches_by_hand() -> None:
    # 5 | 4 4 | 3 joins the 5 | 2 1 in a third. Balanced over three of at most 8: 5, 4, 4, then 3 and 2 go to the 4s (7,
    # 6) and 1 to the 5 (6).
    assert micro_batches(of([3, 5, 4, 1, 4, 2]), 8) == [[1, 3], [2, 0], [4, 5]]


def test_a_sample_longer_than_the_budget_goes_alone_and_nothing_waits_for_it() -> None:
    assert micro_batches(of([100, 1, 100]), 10) == [[0], [2], [1]]


def test_no_samples_make_no_micro_batches() -> None:
    assert micro_batches([], 10) == []


def test_where_balancing_would_break_the_budget_the_tight_packing_stays() -> None:
    # 3 3 | 2 2 2 fill two bins of 6. Balanced, it is 3 2 and 3 2, where the last 2 fits nowhere.
    assert micro_batches(of([3, 3, 2, 2, 2]), 6) == [[0, 1], [2, 3, 4]]


def test_rollouts_of_an_image_stay_together_as_far_as_the_budget_allows() -> None:
    """Eight rollouts each of four images: the tower sees every image once, where packing by length shows it more."""
    draw = np.random.default_rng(0)
    samples = [sample(60 + int(draw.integers(1, 60)), f"image {i % 4}", 50) for i in range(32)]
    split = micro_batches(samples, 1000)
    assert sum(len({samples[row].images for row in rows}) for rows in split) == 4

    tight = micro_batches(samples, 500)  # a group of about 720 tokens does not fit: twice then
    assert sum(len({samples[row].images for row in rows}) for rows in tight) <= 8


def test_rollouts_of_a_prompt_stay_together_as_far_as_the_budget_allows() -> None:
    """Eight responses of 9 tokens to each of three prompts of one: 1 + 8 x 9 + 7 x 1 = 80 tokens a group."""
    samples = [sample(10, prompt=i % 3) for i in range(24)]
    assert sorted(sorted(rows) for rows in micro_batches(samples, 80)) == [list(range(i, 24, 3)) for i in range(3)]
    assert [len(rows) for rows in micro_batches(samples, 240)] == [24]
    tight = micro_batches(samples, 40)  # half a group
    assert sum(len({samples[row].prompt for row in rows}) for rows in tight) == 6


def test_prompts_with_one_image_stay_whole_and_together_where_they_fit() -> None:
    """Two prompts of 16 tokens with one image, four responses of 10 to each: 16 + 4 x 10 + 3 x 2 = 62 tokens."""
    samples = [sample(26, "image", 16, prompt=i % 2) for i in range(8)]
    assert [len(rows) for rows in micro_batches(samples, 124)] == [8]
    for rows in micro_batches(samples, 100):  # 38 are left behind the first prompt: the second begins anew
        assert len(rows) == 4
        assert len({samples[row].prompt for row in rows}) == 1


def test_ranks_get_equal_loads_of_both_kinds() -> None:
    """Half of the prompts have an image of 10 to 500 tokens; every rank gets its share of tokens and of pixels."""
    draw = np.random.default_rng(1)
    samples = []
    for prompt in range(64):
        picture = int(draw.integers(10, 500)) if prompt % 2 else 0
        for _ in range(8):
            length = picture + int(min(4096, draw.lognormal(5.7, 0.8)))
            samples.append(sample(length, f"image {prompt}" if picture else "", picture))
    shares = deal(samples, 4)
    assert sorted(row for rows in shares for row in rows) == list(range(len(samples)))
    tokens = [tokens_of(samples, rows) for rows in shares]
    pixels = [sum({samples[row].images: samples[row].image_tokens for row in rows}.values()) for rows in shares]
    assert max(tokens) < 1.05 * min(tokens)
    assert max(pixels) < 1.1 * min(pixels)

    # Dealt by length alone, as if there were no images, the tower's loads drift apart: groups are torn.
    torn = deal([sample(s.length) for s in samples], 4)
    seen = [sum({samples[row].images: samples[row].image_tokens for row in rows}.values()) for rows in torn]
    assert sum(seen) > 2 * sum(pixels)


def test_there_may_be_more_ranks_than_samples() -> None:
    assert sorted(deal(of([3]), 2)) == [[], [0]]
    assert deal([], 2) == [[], []]


def test_every_update_of_an_episode_is_balanced() -> None:
    """Long samples in one update, short ones in the other. Dealt as one, 9 9 | 9 9 may come with 1 1 1 1 anywhere."""
    samples = of([9, 1, 9, 1, 9, 1, 9, 1])
    updates = [[0, 2, 4, 6], [1, 3, 5, 7]]
    shares = deal_updates(samples, updates * 2, 2)  # two passes
    assert sorted(row for rows in shares for row in rows) == list(range(8))
    for rows in updates:
        assert [sum(samples[row].length for row in share if row in rows) for share in shares] in ([18, 18], [2, 2])
