"""Micro-batches and the tensors of a forward pass."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sailrl.data.batch import Batch, Sample, collate, micro_batches
from sailrl.types import Completion, Problem, Prompt


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_micro_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    split = micro_batches(lengths, budget)
    assert sorted(row for rows in split for row in rows) == list(range(len(lengths)))
    for rows in split:
        padded = len(rows) * max(lengths[row] for row in rows)
        assert padded <= budget or len(rows) == 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 200))
def test_micro_batches_are_filled(lengths: list[int], budget: int) -> None:
    """The first row of the next micro-batch would not have fitted into the one before."""
    split = micro_batches(lengths, budget)
    for rows, following in itertools.pairwise(split):
        assert (len(rows) + 1) * max(lengths[row] for row in [*rows, following[0]]) > budget


def test_micro_batches_by_hand() -> None:
    # Longest first: 5 | 4 4 would pad to 8, 3 fits not (12 > 8) | 3 2 pads to 6, a third row to 9 | 1
    assert micro_batches([3, 5, 4, 1, 4, 2], 8) == [[1], [2, 4], [0, 5], [3]]


def test_a_row_longer_than_the_budget_goes_alone() -> None:
    assert micro_batches([100, 1, 100], 10) == [[0], [2], [1]]


def test_no_rows_make_no_micro_batches() -> None:
    assert micro_batches([], 10) == []


def _sample(prompt: list[int], response: list[int], advantage: float) -> Sample:
    logp = -0.1 * np.arange(1, len(response) + 1, dtype=np.float32)
    return Sample(np.array(prompt, np.int32), np.array(response, np.int32), logp, advantage)


def test_collated_tensors_by_hand() -> None:
    batch = collate([_sample([11, 12, 13], [21, 22], 0.5), _sample([14], [23, 24, 25], -1.0)], pad_id=9)
    assert batch.input_ids.tolist() == [[11, 12, 13, 21, 22], [14, 23, 24, 25, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert batch.prompt_lengths.tolist() == [3, 1]
    assert batch.response_ids.tolist() == [[21, 22, 0], [23, 24, 25]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.advantage.tolist() == [[0.5, 0.5, 0.0], [-1.0, -1.0, -1.0]]
    assert batch.engine_logp[0].tolist() == pytest.approx([-0.1, -0.2, 0.0])
    assert batch.engine_logp[1].tolist() == pytest.approx([-0.1, -0.2, -0.3])


def test_response_positions_are_those_that_predict_each_response_token() -> None:
    batch = collate([_sample([11, 12, 13], [21, 22], 0.5), _sample([14], [23, 24, 25], -1.0)], pad_id=9)
    rows, positions = batch.response_positions()
    # The token after position 2 of row 0 is 21, its first response token; in row 1 it is the one after position 0.
    assert list(zip(rows.tolist(), positions.tolist(), strict=True)) == [(0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]
    assert torch.equal(batch.input_ids[rows, positions + 1], batch.response_ids[batch.mask])


def test_the_padding_never_passes_for_a_response() -> None:
    """An id equal to the padding is still a token of the response."""
    batch = collate([_sample([1], [9, 9], 1.0), _sample([1], [9], 1.0)], pad_id=9)
    assert batch.mask.tolist() == [[True, True], [True, False]]


def test_a_sample_holds_the_very_ids_and_logprobs_of_its_completion() -> None:
    prompt = Prompt(Problem(prompt="?"), token_ids=[5, 7, 7, 7], engine_ids=[5, 7], images=("hash",))
    completion = Completion([1, 2], [-0.25, -0.5], "ab", "stop", version=3)
    sample = Sample.of(prompt, completion, 0.75)
    assert sample.prompt_ids.tolist() == [5, 7, 7, 7]  # the expanded ones
    assert sample.response_ids.tolist() == [1, 2]
    assert sample.engine_logp.tolist() == [-0.25, -0.5]
    assert (sample.length, sample.advantage, sample.images) == (6, 0.75, ("hash",))


def test_a_batch_goes_to_a_device_with_all_its_tensors_or_stays_the_very_same() -> None:
    ids = np.array([1, 2, 3], dtype=np.int32)
    batch = collate([Sample(ids, ids, np.zeros(3, np.float32), 1.0, images=("photo",))], pad_id=0)
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    tensors = [value for value in vars_of(moved) if isinstance(value, torch.Tensor)]
    assert len(tensors) == 7
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.images == (("photo",),)


def vars_of(batch: Batch) -> list[object]:
    return [getattr(batch, field.name) for field in fields(batch)]
