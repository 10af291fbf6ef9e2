"""Samples on their way to another process: a few long arrays, where each sample's own would be handled one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sailrl.data.batch import Sample


@dataclass(frozen=True, slots=True)
class Parcel:
    """``B`` samples with ``P`` prompt tokens and ``T`` response tokens in all."""

    prompt_ids: np.ndarray
    """[P] int32."""
    response_ids: np.ndarray
    """[T] int32."""
    engine_logp: np.ndarray
    """[T] float32."""
    others: list[tuple[Any, ...]]
    """[B] a sample's tokens of prompt and response, and what else it has."""

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Parcel:
        """Packs samples, none or more."""
        return cls(
            np.concatenate([np.zeros(0, np.int32), *(s.prompt_ids for s in samples)]),
            np.concatenate([np.zeros(0, np.int32), *(s.response_ids for s in samples)]),
            np.concatenate([np.zeros(0, np.float32), *(s.engine_logp for s in samples)]),
            [
                (len(s.prompt_ids), len(s.response_ids), s.advantage, s.images, s.image_tokens, s.experts)
                for s in samples
            ],
        )

    def samples(self) -> list[Sample]:
        """The same samples, in their order."""
        samples = []
        asked = said = 0  # tokens of the samples so far
        for prompt, response, *others in self.others:
            ids, answer = slice(asked, asked + prompt), slice(said, said + response)
            samples.append(Sample(self.prompt_ids[ids], self.response_ids[answer], self.engine_logp[answer], *others))
            asked, said = ids.stop, answer.stop
        return samples
