"""The tensors of a forward pass over several samples."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sailrl.data.batch import Batch, Sample, collate
from sailrl.types import Completion, Problem, Prompt


def _sample(prompt: list[int], response: list[int], advantage: float) -> Sample:
    logp = -0.1 * np.arange(1, len(response) + 1, dtype=np.float32)
    return Sample(np.array(prompt, np.int32), np.array(response, np.int32), logp, advantage)


def test_collated_tensors_by_hand() -> None:
    batch = collate([_sample([11, 12, 13], [21, 22], 0.5), _sample([14], [23, 24, 25], -1.0)])
    assert batch.input_ids.tolist() == [11, 12, 13, 21, 14, 23, 24]  # no 22 and 25, which predict nothing
    assert batch.lengths == (4, 3)
    assert batch.starts().tolist() == batch.row_starts().tolist() == [0, 4, 7]
    assert batch.positions().tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert batch.prompt_lengths.tolist() == [3, 1]
    assert batch.response_ids.tolist() == [[21, 22, 0], [23, 24, 25]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.advantage.tolist() == [[0.5, 0.5, 0.0], [-1.0, -1.0, -1.0]]
    assert batch.engine_logp[0].tolist() == pytest.approx([-0.1, -0.2, 0.0])
    assert batch.engine_logp[1].tolist() == pytest.approx([-0.1, -0.2, -0.3])


def test_a_prompt_that_samples_share_is_in_the_row_once() -> None:
    one, other = [11, 12, 13], [14]
    rows = [(one, [21, 22]), (other, [23, 24, 25]), (one, [26]), (one, [27, 28])]
    batch = collate([_sample(prompt, response, 1.0) for prompt, response in rows])
    assert batch.input_ids.tolist() == [11, 12, 13, 21, 14, 23, 24, 27]
    assert batch.brought_by == (0, 1, 0, 0)
    assert batch.row_lengths() == [4, 3, 0, 1]
    assert batch.row_starts().tolist() == [0, 4, 7, 7, 8]
    # As each sample would read them: 11 12 13 21 | 14 23 24 | 11 12 13 | 11 12 13 27.
    assert batch.lengths == (4, 3, 3, 4)
    assert batch.places.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 0, 1, 2, 7]
    assert batch.owners.tolist() == [0, 1, 2, 3, 4, 5, 6, 13]
    assert batch.positions().tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    # 21 and 22 come after places 2 and 3, 26 and 27 after the same place 2, 28 after place 7.
    assert batch.predictors.tolist() == [2, 3, 4, 5, 6, 2, 2, 7]


def test_prompts_with_the_same_ids_and_other_images_are_not_the_same() -> None:
    ids = np.array([1, 2], np.int32)
    samples = [Sample(ids, ids, np.zeros(2, np.float32), 1.0, images=(name,)) for name in ("a", "b", "a")]
    assert collate(samples).brought_by == (0, 1, 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=12))
def test_every_sample_finds_its_own_tokens_in_the_row(rows: list[tuple[int, int]]) -> None:
    prompts = [[1], [1, 2], [3, 3, 3], [4]]
    samples = [_sample(prompts[which], list(range(10, 10 + count)), 1.0) for which, count in rows]
    batch = collate(samples)
    for sample, ids in zip(samples, batch.input_ids[batch.places].split(batch.lengths), strict=True):
        assert ids.tolist() == [*sample.prompt_ids.tolist(), *sample.response_ids.tolist()[:-1]]
    assert torch.equal(batch.places[batch.owners], torch.arange(len(batch.input_ids)))
    distinct = {which for which, _ in rows}
    assert len(batch.input_ids) == sum(len(prompts[which]) for which in distinct) + sum(n - 1 for _, n in rows)


def test_predictors_are_the_places_that_predict_each_response_token() -> None:
    batch = collate([_sample([11, 12, 13], [21, 22], 0.5), _sample([14], [23, 24, 25], -1.0)])
    # The token after place 2 is 21, the first response token of sample 0; place 4 holds 14, before 23 of sample 1.
    assert batch.predictors.tolist() == [2, 3, 4, 5, 6]


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
    assert len(tensors) == 10
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.images == (("photo",),)


def vars_of(batch: Batch) -> list[object]:
    return [getattr(batch, field.name) for field in fields(batch)]
