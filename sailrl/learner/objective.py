"""From the configured algorithm to one function of log-probabilities: the seam between config and algos."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sailrl.algos import mismatch
from sailrl.algos.dapo import dapo_loss
from sailrl.config.losses import Algorithm, MismatchConfig, TokenTis
from sailrl.data.batch import Batch


@dataclass(frozen=True, slots=True)
class UpdateScope:
    """What every micro-batch and rank of one update shares."""

    tokens: int
    """Response tokens of the whole update, over all ranks."""
    sequences: int
    """Responses of the whole update, over all ranks."""
    clip_low: float
    """Ratios are clipped below at 1 - clip_low."""
    clip_high: float
    """Ratios are clipped above at 1 + clip_high."""


class Objective:
    """The loss of a micro-batch under the configured algorithm and mismatch correction."""

    def __init__(self, algorithm: Algorithm, mismatch: MismatchConfig) -> None:
        self._algorithm, self._correction = algorithm, mismatch.correction

    def __call__(
        self, logp: torch.Tensor, old_logp: torch.Tensor, batch: Batch, scope: UpdateScope
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss and metrics; all tensors [B, R]. Metrics add up over micro-batches and ranks (see sailrl.algos)."""
        sides = (old_logp, batch.engine_logp, batch.mask)
        metrics = mismatch.mismatch_metrics(*sides, denominator=scope.tokens)
        weight = None
        if isinstance(self._correction, TokenTis):
            weight = mismatch.token_tis(*sides, cap=self._correction.cap)
            metrics |= mismatch.correction_metrics(weight, *sides, denominator=scope.tokens)
        loss, loss_metrics = dapo_loss(
            logp,
            old_logp,
            batch.advantage,
            batch.mask,
            clip_low=scope.clip_low,
            clip_high=scope.clip_high,
            denominator=scope.tokens,
            dual_clip=self._algorithm.dual_clip,
            weight=weight,
        )
        return loss, metrics | loss_metrics
