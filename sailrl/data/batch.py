"""Samples, and the tensors of one forward pass over several of them."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
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

    @property
    def prompt(self) -> Hashable:
        """Equal for samples whose prompts are the same in ids and images."""
        return self.prompt_ids.tobytes(), self.images


@dataclass(frozen=True, slots=True)
class Batch:
    """The tensors of one forward pass over ``B`` samples.

    The model reads one row of ``N`` tokens, nothing padded: sample after sample its prompt and its response. A prompt
    that an earlier sample has brought is not there again, so that a group's prompt is computed once; nor is the last
    token of a response, which predicts nothing. Read one by one, the samples have ``M`` tokens. What the loss reads is
    by response: ``R`` is the longest one's length.
    """

    input_ids: torch.Tensor
    """[N] int64."""
    lengths: tuple[int, ...]
    """[B] tokens that each sample reads, prompt and response; they sum to M."""
    brought_by: tuple[int, ...]
    """[B] the sample that has brought each one's prompt: itself, or the first one with the same prompt."""
    places: torch.Tensor
    """[M] int64, where in the row each token of each sample lies."""
    owners: torch.Tensor
    """[N] int64, the first of the M tokens that lies at each place of the row."""
    prompt_lengths: torch.Tensor
    """[B] int64."""
    targets: torch.Tensor
    """[n] int64, the n response tokens of all samples."""
    predictors: torch.Tensor
    """[n] int64, where in the row the hidden state lies that predicts each of them."""
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

    def brings(self, sample: int) -> bool:
        """Whether a sample's prompt lies in the row in front of its response, not further ahead."""
        return self.brought_by[sample] == sample

    def row_lengths(self) -> list[int]:
        """[B] tokens of the row that each sample has brought; they sum to N."""
        prompts = self.prompt_lengths.tolist()
        return [n - (0 if self.brings(b) else prompts[b]) for b, n in enumerate(self.lengths)]

    def starts(self) -> torch.Tensor:
        """[B + 1] int32 on the batch's device: where each sample starts among the M tokens, and M."""
        return _starts(self.lengths, self.input_ids.device)

    def row_starts(self) -> torch.Tensor:
        """[B + 1] int32 on the batch's device: where in the row what a sample has brought starts, and N."""
        return _starts(self.row_lengths(), self.input_ids.device)

    def positions(self) -> torch.Tensor:
        """[N] int64: every sample counts from 0."""
        starts = self.starts().long()
        sample = torch.searchsorted(starts, self.owners, right=True) - 1
        return self.owners - starts[sample]


def _starts(lengths: Iterable[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(list(itertools.accumulate(lengths, initial=0)), dtype=torch.int32, device=device)


def collate(samples: Sequence[Sample]) -> Batch:
    """Packs ``samples`` into one batch, in their order, and each distinct prompt once."""
    lengths = torch.tensor([len(s.response_ids) for s in samples])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]

    def padded(parts: list[np.ndarray], dtype: torch.dtype) -> torch.Tensor:
        blank = torch.zeros(mask.shape, dtype=dtype)
        return blank.masked_scatter_(mask, torch.from_numpy(np.concatenate(parts)).to(dtype))

    return Batch(
        **_row(samples),
        prompt_lengths=torch.tensor([len(s.prompt_ids) for s in samples]),
        response_ids=padded([s.response_ids for s in samples], torch.long),
        mask=mask,
        engine_logp=padded([s.engine_logp for s in samples], torch.float32),
        advantage=torch.tensor([[s.advantage] for s in samples], dtype=torch.float32) * mask,
        images=tuple(s.images for s in samples),
    )


def _row(samples: Sequence[Sample]) -> dict[str, Any]:
    """What a batch knows of its row, by the names of its fields."""
    first: dict[Hashable, tuple[int, int]] = {}  # of each prompt: the sample that has it, its place in the row
    row, places, owners, predictors, lengths, brought_by = [], [], [], [], [], []
    end = read = 0  # tokens of the row, and of the samples, so far
    for number, sample in enumerate(samples):
        prompt, response = len(sample.prompt_ids), sample.response_ids[:-1]
        bringer, place = first.setdefault(sample.prompt, (number, end))
        brought_by.append(bringer)
        if bringer == number:
            row.append(sample.prompt_ids)
            owners.append(np.arange(read, read + prompt))
            end += prompt
        row.append(response)
        places += [np.arange(place, place + prompt), np.arange(end, end + len(response))]
        owners.append(np.arange(read + prompt, read + prompt + len(response)))
        last = np.array([place + prompt - 1])[: len(sample.response_ids)]  # of the prompt
        predictors += [last, np.arange(end, end + len(response))]
        lengths.append(prompt + len(response))
        end, read = end + len(response), read + lengths[-1]
    return {
        "input_ids": torch.from_numpy(np.concatenate(row)).long(),
        "lengths": tuple(lengths),
        "brought_by": tuple(brought_by),
        "places": torch.from_numpy(np.concatenate(places)),
        "owners": torch.from_numpy(np.concatenate(owners)),
        "predictors": torch.from_numpy(np.concatenate(predictors)).long(),
        "targets": torch.from_numpy(np.concatenate([s.response_ids for s in samples])).long(),
    }
