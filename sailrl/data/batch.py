"""Samples, micro-batches under a token budget, and the tensors of one forward pass."""

from __future__ import annotations

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

    @classmethod
    def of(cls, prompt: Prompt, completion: Completion, advantage: float) -> Sample:
        """Joins a prompt, its completion and the advantage that the group gave it."""
        return cls(
            prompt_ids=np.asarray(prompt.token_ids, dtype=np.int32),
            response_ids=np.asarray(completion.token_ids, dtype=np.int32),
            engine_logp=np.asarray(completion.logprobs, dtype=np.float32),
            advantage=advantage,
            images=tuple(prompt.images),
        )

    @property
    def length(self) -> int:
        """Prompt and response tokens."""
        return len(self.prompt_ids) + len(self.response_ids)


def micro_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Splits rows into micro-batches of at most ``max_tokens`` tokens, padding included; a longer row goes alone.

    Rows are sorted by length, so that little is padded. Returns the rows' positions; every row appears exactly once.
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        # Rows come longest first, so the first row of a batch is what the others are padded to.
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


@dataclass(frozen=True, slots=True)
class Batch:
    """The tensors of one forward pass. ``B`` rows, ``S`` prompt + response tokens, ``R`` response tokens."""

    input_ids: torch.Tensor
    """[B, S] int64, padded on the right."""
    attention_mask: torch.Tensor
    """[B, S] int64, 1 where there is a token."""
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
    """[B] content hashes of each row's images, in order."""

    def to(self, device: torch.device) -> Batch:
        """The same batch with all tensors on ``device``; the batch itself where they are there already."""
        if self.input_ids.device == device:
            return self
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {k: v.to(device) for k, v in values.items() if isinstance(v, torch.Tensor)}
        return replace(self, **tensors)

    def response_positions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices ``(row, position)``, each [N], of the hidden states that predict the N response tokens."""
        row, offset = self.mask.nonzero(as_tuple=True)
        return row, self.prompt_lengths[row] + offset - 1


def collate(samples: Sequence[Sample], *, pad_id: int) -> Batch:
    """Pads ``samples`` into one batch."""
    size, width = max(s.length for s in samples), max(len(s.response_ids) for s in samples)
    input_ids = torch.full((len(samples), size), pad_id, dtype=torch.long)
    attention = torch.zeros((len(samples), size), dtype=torch.long)
    responses = torch.zeros((len(samples), width), dtype=torch.long)
    mask = torch.zeros((len(samples), width), dtype=torch.bool)
    engine_logp = torch.zeros((len(samples), width))
    advantage = torch.zeros((len(samples), width))
    for b, sample in enumerate(samples):
        count = len(sample.response_ids)
        input_ids[b, : sample.length] = torch.from_numpy(np.concatenate([sample.prompt_ids, sample.response_ids]))
        attention[b, : sample.length] = 1
        responses[b, :count] = torch.from_numpy(sample.response_ids)
        mask[b, :count] = True
        engine_logp[b, :count] = torch.from_numpy(sample.engine_logp)
        advantage[b, :count] = sample.advantage
    prompt_lengths = torch.tensor([len(s.prompt_ids) for s in samples])
    images = tuple(sample.images for sample in samples)
    return Batch(input_ids, attention, prompt_lengths, responses, mask, engine_logp, advantage, images)
