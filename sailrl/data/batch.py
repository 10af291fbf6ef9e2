"""Samples, and the tensors of one forward pass over several of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from sailrl.types import Completion, Prompt


@dataclass(frozen=True, slots=True)
class Sample:
    """One rollout as the learner sees it: the very ids the engine read and wrote."""

    prompt_ids: np.ndarray
    """[P] int32, images expanded."""
    response_ids: np.ndarray
    """[T] int32."""
    engine_logp: np.ndarray
    """[T] float32, nats, as the engine sampled them."""
    advantage: float
    """One number for the whole response."""
    images: tuple[str, ...] = ()
    """Content hashes into the image store."""
    image_tokens: int = 0
    """Places in the prompt that the images fill."""
    experts: np.ndarray | None = None
    """[layers, P + T - 1, K] experts that the engine chose (see Completion); None when it was not asked."""

    @classmethod
    def of(cls, prompt: Prompt, completion: Completion, advantage: float) -> Sample:
        """Joins a prompt, its completion and the advantage that the group gave it."""
        return cls(
            prompt_ids=np.asarray(prompt.token_ids, dtype=np.int32),
            response_ids=np.asarray(completion.token_ids, dtype=np.int32),
            engine_logp=np.asarray(completion.logprobs, dtype=np.float32),
            advantage=advantage,
            images=tuple(prompt.images),
            # The engine's ids have one place per image, the learner's as many as it fills.
            image_tokens=len(prompt.token_ids) - len(prompt.engine_ids) + len(prompt.images),
            experts=completion.experts,
        )

    @property
    def length(self) -> int:
        """Prompt and response tokens."""
        return len(self.prompt_ids) + len(self.response_ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """The tensors of one forward pass: ``B`` samples laid end to end in one row of ``N`` tokens, nothing padded. What
    the loss reads is by response: ``R`` is the longest one's length."""

    input_ids: torch.Tensor
    """[N] int64, sample after sample."""
    lengths: tuple[int, ...]
    """[B] prompt + response tokens; they sum to N."""
    prompt_lengths: torch.Tensor
    """[B] int64."""
    response_ids: torch.Tensor
    """[B, R] int64, padded with 0."""
    mask: torch.Tensor
    """[B, R] bool, True on response tokens."""
    engine_logp: torch.Tensor
    """[B, R] float32."""
    advantage: torch.Tensor
    """[B, R] float32, the same in a whole row."""
    images: tuple[tuple[str, ...], ...] = ()
    """[B] content hashes of each sample's images, in order."""

    def to(self, device: torch.device) -> Batch:
        """The same batch with all tensors on ``device``; the batch itself where they are there already."""
        if self.input_ids.device == device:
            return self
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {k: v.to(device) for k, v in values.items() if isinstance(v, torch.Tensor)}
        return replace(self, **tensors)

    def starts(self) -> torch.Tensor:
        """[B + 1] int32 on the batch's device: where each sample starts in the row, and where the last one ends."""
        ends = list(itertools.accumulate(self.lengths, initial=0))
        return torch.tensor(ends, dtype=torch.int32, device=self.input_ids.device)

    def positions(self) -> torch.Tensor:
        """[N] int64: every sample counts from 0."""
        return torch.cat([torch.arange(length, device=self.input_ids.device) for length in self.lengths])

    def response_positions(self) -> torch.Tensor:
        """[n] places in the row of the hidden states that predict the n response tokens, in the order of ``mask``."""
        sample, offset = self.mask.nonzero(as_tuple=True)
        return self.starts()[sample] + self.prompt_lengths[sample] + offset - 1


def collate(samples: Sequence[Sample]) -> Batch:
    """Packs ``samples`` into one batch, in their order."""
    width = max(len(s.response_ids) for s in samples)
    responses = torch.zeros((len(samples), width), dtype=torch.long)
    mask = torch.zeros((len(samples), width), dtype=torch.bool)
    engine_logp = torch.zeros((len(samples), width))
    advantage = torch.zeros((len(samples), width))
    for b, sample in enumerate(samples):
        count = len(sample.response_ids)
        responses[b, :count] = torch.from_numpy(sample.response_ids)
        mask[b, :count] = True
        engine_logp[b, :count] = torch.from_numpy(sample.engine_logp)
        advantage[b, :count] = sample.advantage
    row = np.concatenate([ids for s in samples for ids in (s.prompt_ids, s.response_ids)])
    return Batch(
        input_ids=torch.from_numpy(row).long(),
        lengths=tuple(s.length for s in samples),
        prompt_lengths=torch.tensor([len(s.prompt_ids) for s in samples]),
        response_ids=responses,
        mask=mask,
        engine_logp=engine_logp,
        advantage=advantage,
        images=tuple(s.images for s in samples),
    )
