"""Attention without a GPU kernel: samples of about one length attend together, and none sees another or its padding."""

from __future__ import annotations

from itertools import accumulate

import torch
from hypothesis import given
from hypothesis import strategies as st

from sailrl.learner.attention import PADDING, _buckets, attend

LENGTHS = (5, 1, 40, 6, 38, 1, 5)


def _starts(lengths: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)


def _packed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    out, _ = attend(torch.nn.Identity(), q, k, v, None, cu_seq_lens_q=_starts(LENGTHS), max_length_q=max(LENGTHS))
    return out


def _alone(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Softmax of causal scores, sample by sample, two query heads to a key head."""
    parts = []
    for a, b, c in zip(*(x.split(LENGTHS, dim=2) for x in (q, k, v)), strict=True):
        scores = a @ b.repeat_interleave(2, dim=1).transpose(2, 3) / a.shape[-1] ** 0.5
        later = torch.ones(a.shape[2], a.shape[2], dtype=torch.bool).triu(1)
        parts.append(scores.masked_fill(later, -torch.inf).softmax(-1) @ c.repeat_interleave(2, dim=1))
    return torch.cat(parts, dim=2).transpose(1, 2)


def test_it_is_causal_attention_within_each_sample_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    heads = ((1, 4, sum(LENGTHS), 8), (1, 2, sum(LENGTHS), 8), (1, 2, sum(LENGTHS), 8))
    ours, theirs = ([torch.randn(s, dtype=torch.float64) for s in heads] for _ in range(2))
    for mine, other in zip(ours, theirs, strict=True):
        other.copy_(mine)
        mine.requires_grad_()
        other.requires_grad_()
    upstream = torch.randn(1, sum(LENGTHS), 4, 8, dtype=torch.float64)
    for parts, run in ((ours, _packed), (theirs, _alone)):
        out = run(*parts)
        out.backward(upstream)
    torch.testing.assert_close(_packed(*ours), _alone(*theirs), rtol=1e-12, atol=1e-12)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=1e-12)


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
