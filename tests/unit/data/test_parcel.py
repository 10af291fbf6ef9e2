"""Samples that travelled are the samples that were sent."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sailrl.data.batch import Sample
from sailrl.data.parcel import Parcel


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    """A few, with and without images and experts; a prompt or a response may be empty."""
    found = []
    for number in range(draw(st.integers(0, 6))):
        asked, said = draw(st.integers(0, 5)), draw(st.integers(0, 5))
        experts = draw(st.sampled_from([None, np.full((2, asked + said, 1), number, np.uint8)]))
        found.append(
            Sample(
                np.arange(asked, dtype=np.int32) + 10 * number,
                np.arange(said, dtype=np.int32) + 100 * number,
                -np.arange(said, dtype=np.float32) / 3 - number,
                draw(st.floats(-2, 2)),
                draw(st.sampled_from([(), ("a",), ("b", "c")])),
                draw(st.integers(0, 3)),
                experts,
            )
        )
    return found


@given(samples())
def test_a_parcel_holds_what_was_packed_in_its_order(sent: list[Sample]) -> None:
    received = pickle.loads(pickle.dumps(Parcel.of(sent))).samples()
    assert len(received) == len(sent)
    for one, other in zip(sent, received, strict=True):
        for name in ("prompt_ids", "response_ids", "engine_logp"):
            before, after = getattr(one, name), getattr(other, name)
            assert before.dtype == after.dtype
            assert np.array_equal(before, after)
        for name in ("advantage", "images", "image_tokens"):
            assert getattr(one, name) == getattr(other, name)
        assert (one.experts is None) == (other.experts is None)
        assert one.experts is None or np.array_equal(one.experts, other.experts)


def test_neighbours_do_not_share_what_one_of_them_has() -> None:
    """A negative control: were the cuts one token off, a neighbour's first token would be the last of the other."""
    one, other = Parcel.of(
        [
            Sample(np.array([1, 2], np.int32), np.array([3], np.int32), np.zeros(1, np.float32), 0.5),
            Sample(np.array([4], np.int32), np.array([5, 6], np.int32), np.ones(2, np.float32), -0.5),
        ]
    ).samples()
    assert (one.prompt_ids.tolist(), one.response_ids.tolist(), one.engine_logp.tolist()) == ([1, 2], [3], [0.0])
    assert (other.prompt_ids.tolist(), other.response_ids.tolist()) == ([4], [5, 6])
