"""Attention without a GPU kernel: samples of about one length attend together, none sees another or its padding, and
those that share a prompt all see it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sailrl.data.batch import Batch, Sample, collate
from sailrl.learner.attention import PADDING, Layout, _buckets, attend, layout, take

LENGTHS = (5, 1, 40, 6, 38, 1, 5)


def _batch(prompts: list[int]) -> Batch:
    """Samples that read ``LENGTHS`` tokens; those with the same number of ``prompts`` share one of so many tokens."""
    samples = []
    for number, (length, prompt) in enumerate(zip(LENGTHS, prompts, strict=True)):
        # Prompts of one length are one prompt; 0 is a text of its own without a response.
        ids = np.full(prompt, prompt) if prompt else np.full(length, 100 + number)
        response = np.zeros(length - prompt + 1 if prompt else 0)
        samples.append(Sample(ids.astype(np.int32), response.astype(np.int32), np.zeros(len(response)), 0.0))
    batch = collate(samples)
    assert batch.lengths == LENGTHS
    return batch


def _alone(batch: Batch, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Softmax of causal scores, sample by sample, two query heads to a key head; of the places of the row."""
    parts = []
    for a, b, c in zip(*(x[:, :, batch.places].split(batch.lengths, dim=2) for x in (q, k, v)), strict=True):
        scores = a @ b.repeat_interleave(2, dim=1).transpose(2, 3) / a.shape[-1] ** 0.5
        later = torch.ones(a.shape[2], a.shape[2], dtype=torch.bool).triu(1)
        parts.append(scores.masked_fill(later, -torch.inf).softmax(-1) @ c.repeat_interleave(2, dim=1))
    return torch.cat(parts, dim=2).transpose(1, 2)[:, batch.owners]


@pytest.mark.parametrize(("prompts", "tokens"), [([0] * 7, 96), ([4, 1, 4, 4, 4, 1, 4], 79)])
def test_it_is_causal_attention_within_each_sample_in_value_and_gradient(prompts: list[int], tokens: int) -> None:
    """Five samples that share a prompt of 4 tokens save 4 x 4 tokens of 96, two that share one of 1 token save 1."""
    torch.manual_seed(0)
    batch = _batch(prompts)
    assert len(batch.input_ids) == tokens
    heads = [(1, count, len(batch.input_ids), 8) for count in (4, 2, 2)]
    ours = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in heads]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    upstream = torch.randn(1, len(batch.input_ids), 4, 8, dtype=torch.float64)
    mine, _ = attend(torch.nn.Identity(), ours[0], ours[1], ours[2], None, **layout(batch))
    expected = _alone(batch, *theirs)
    torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)
    mine.backward(upstream)
    expected.backward(upstream)
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prompts", [[0] * 7, [4, 1, 4, 4, 4, 1, 4]])
def test_what_a_gpu_kernel_is_told_means_the_same(prompts: list[int]) -> None:
    """A kernel for sequences of different lengths, by its definition: the last question of a sequence sees all of its
    keys, the one before it one fewer. What it is given is the row for questions and whole samples for keys."""
    torch.manual_seed(0)
    batch = _batch(prompts)
    q, k, v = (torch.randn(1, count, len(batch.input_ids), 8, dtype=torch.float64) for count in (4, 2, 2))
    told = Layout(batch)
    assert (told.places is None) == (prompts == [0] * 7)
    whole = [x if told.places is None else x[:, :, told.places] for x in (k, v)]
    asked, held = told.row_starts.diff().tolist(), told.starts.diff().tolist()
    assert (max(asked), max(held)) == (told.row_longest, told.longest)
    parts = []
    for a, b, c in zip(q.split(asked, dim=2), *(x.split(held, dim=2) for x in whole), strict=True):
        scores = a @ b.repeat_interleave(2, dim=1).transpose(2, 3) / 8**0.5
        later = torch.ones(scores.shape[2:], dtype=torch.bool).triu(1 + b.shape[2] - a.shape[2])
        parts.append(scores.masked_fill(later, -torch.inf).softmax(-1) @ c.repeat_interleave(2, dim=1))
    out, _ = attend(torch.nn.Identity(), q, k, v, None, **layout(batch))
    torch.testing.assert_close(out, torch.cat(parts, dim=2).transpose(1, 2), rtol=1e-12, atol=1e-12)


def test_samples_of_about_one_length_share_a_bucket() -> None:
    buckets, _ = _buckets(LENGTHS, torch.device("cpu"))
    # 1 1 | 5 5 6: 18 for 16 tokens | 38 40: 80 for 78
    assert [tuple(rows.shape) for rows in buckets] == [(2, 1), (3, 6), (2, 40)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40).map(tuple))
def test_every_token_is_in_one_place_and_little_is_padded(lengths: tuple[int, ...]) -> None:
    buckets, places = _buckets(lengths, torch.device("cpu"))
    given_rows = torch.cat([rows.flatten() for rows in buckets])
    assert torch.equal(given_rows[places], torch.arange(sum(lengths)))
    assert len(given_rows) <= PADDING * sum(lengths)


def test_the_gradient_of_taking_a_place_many_times_adds_up_in_one_order() -> None:
    """Indexing adds up in the order in which threads come: with two of them, other last bits every time."""
    torch.manual_seed(0)
    which = torch.arange(8).repeat(400)  # every place 400 times, by both threads
    upstream = torch.randn(len(which), 64)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = []
        for _ in range(5):
            rows = torch.zeros(8, 64, requires_grad=True)
            take(rows, which).backward(upstream)
            assert rows.grad is not None
            found.append(rows.grad)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])
    torch.testing.assert_close(found[0], upstream.view(400, 8, 64).sum(0), rtol=0, atol=1e-4)
