"""The tensors of a forward pass over several samples."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from sailrl.data.batch import Batch, Sample, collate
from sailrl.types import Completion, Problem, Prompt


def _sample(prompt: list[int], response: list[int], advantage: float) -> Sample:
    logp = -0.1 * np.arange(1, len(response) + 1, dtype=np.float32)
    return Sample(np.array(prompt, np.int32), np.array(response, np.int32), logp, advantage)


def test_collated_tensors_by_hand() -> None:
    batch = collate([_sample([11, 12, 13], [21, 22], 0.5), _sample([14], [23, 24, 25], -1.0)])
    assert batch.input_ids.tolist() == [11, 12, 13, 21, 22, 14, 23, 24, 25]
    assert batch.lengths == (5, 4)
    assert batch.starts().tolist() == [0, 5, 9]
    assert batch.positions().tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert batch.prompt_lengths.tolist() == [3, 1]
    assert batch.response_ids.tolist() == [[21, 22, 0], [23, 24, 25]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.advantage.tolist() == [[0.5, 0.5, 0.0], [-1.0, -1.0, -1.0]]
    assert batch.engine_logp[0].tolist() == pytest.approx([-0.1, -0.2, 0.0])
    assert batch.engine_logp[1].tolist() == pytest.approx([-0.1, -0.2, -0.3])


def test_response_positions_are_those_that_predict_each_response_token() -> None:
    batch = collate([_sample([11, 12, 13], [21, 22], 0.5), _sample([14], [23, 24, 25], -1.0)])
    places = batch.response_positions()
    # The token after place 2 is 21, the first response token of sample 0; place 5 holds 14, before 23 of sample 1.
    assert places.tolist() == [2, 3, 5, 6, 7]
    assert torch.equal(batch.input_ids[places + 1], batch.response_ids[batch.mask])


def test_the_padding_never_passes_for_a_response() -> None:
    """An id equal to the padding, 0, is still a token of the response."""
    batch = collate([_sample([1], [0, 0], 1.0), _sample([1], [0], 1.0)])
    assert batch.mask.tolist() == [[True, True], [True, False]]


def test_a_sample_holds_the_very_ids_and_logprobs_of_its_completion() -> None:
    prompt = Prompt(Problem(prompt="?"), token_ids=[5, 7, 7, 7], engine_ids=[5, 7], images=("hash",))
    completion = Completion([1, 2], [-0.25, -0.5], "ab", "stop", version=3)
    sample = Sample.of(prompt, completion, 0.75)
    assert sample.prompt_ids.tolist() == [5, 7, 7, 7]  # the expanded ones
    assert sample.response_ids.tolist() == [1, 2]
    assert sample.engine_logp.tolist() == [-0.25, -0.5]
    assert (sample.length, sample.advantage, sample.images) == (6, 0.75, ("hash",))
    assert sample.image_tokens == 3  # 4 ids for the learner, 2 for the engine, of which one stands for the image


def test_a_batch_goes_to_a_device_with_all_its_tensors_or_stays_the_very_same() -> None:
    ids = np.array([1, 2, 3], dtype=np.int32)
    batch = collate([Sample(ids, ids, np.zeros(3, np.float32), 1.0, images=("photo",))])
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    tensors = [value for value in vars_of(moved) if isinstance(value, torch.Tensor)]
    assert len(tensors) == 6
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.images == (("photo",),)


def vars_of(batch: Batch) -> list[object]:
    return [getattr(batch, field.name) for field in fields(batch)]
