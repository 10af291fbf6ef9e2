"""The loss that a configuration selects: calls the functions of ``algos`` with the settings of ``config``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sailrl.algos import mismatch
from sailrl.algos.cispo import cispo_loss
from sailrl.algos.dapo import dapo_loss
from sailrl.algos.dr_grpo import dr_grpo_loss
from sailrl.algos.grpo import grpo_loss
from sailrl.algos.gspo import gspo_loss, gspo_token_loss
from sailrl.algos.regularise import kl_loss, mean_entropy
from sailrl.algos.sapo import sapo_loss
from sailrl.algos.vespo import vespo_loss
from sailrl.config import losses
from sailrl.data.batch import Batch, Sample
from sailrl.errors import MismatchError
from sailrl.learner import moe

HISTOGRAM = "mismatch/histogram"
"""A vector metric: counts of |log k|. Counts can be added over micro-batches, percentiles cannot."""
NOT_NUMBERS = (HISTOGRAM, moe.COUNTS, moe.CHANGED)
IMAGES = "mismatch/images/"
"""Prefix of the same metrics over responses to prompts with images: vision towers differ more than language models."""


@dataclass(frozen=True, slots=True)
class UpdateScope:
    """Numbers that all micro-batches and ranks of one update share."""

    tokens: int
    """Response tokens that the whole update learns from, over all ranks; metrics are means over these."""
    sequences: int
    """Their responses."""
    clip_low: float = math.inf
    """Ratios are clipped below at 1 - clip_low."""
    clip_high: float = math.inf
    """Ratios are clipped above at 1 + clip_high."""
    image_tokens: int = 0
    """Response tokens of prompts with images."""
    token_share: float = 1.0
    """``tokens`` over all response tokens of the update: the loss is a mean over those without an advantage, too."""
    sequence_share: float = 1.0
    """The same for responses."""

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        rows: Sequence[int],
        among: Sequence[int],
        *,
        clip_low: float = math.inf,
        clip_high: float = math.inf,
    ) -> UpdateScope:
        """Of an update that learns from ``rows``, ``among`` all rows that it has."""
        tokens = sum(len(samples[row].response_ids) for row in rows)
        return cls(
            tokens,
            len(rows),
            clip_low,
            clip_high,
            image_tokens=sum(len(samples[row].response_ids) for row in rows if samples[row].images),
            token_share=tokens / sum(len(samples[row].response_ids) for row in among),
            sequence_share=len(rows) / len(among),
        )


def with_advantage(samples: Sequence[Sample], rows: Sequence[int]) -> list[int]:
    """The rows that can change weights, where no term is added to the loss: the gradient of every loss is 0 where the
    advantage is. The first row where there are none, so that the update has its metrics."""
    return [row for row in rows if samples[row].advantage] or list(rows[:1])


class Objective:
    """The loss of a micro-batch under the configured algorithm and mismatch correction.

    Args:
        max_response_tokens: the constant of Dr. GRPO's denominator.
    """

    advice = (
        "Check mismatch/max_abs_dlogp and the rewards of this episode in rollouts.jsonl, then lower "
        "learner.learning_rate or resume from an earlier checkpoint."
    )
    """What to do about a gradient that is not finite."""

    def __init__(
        self,
        algorithm: losses.Algorithm,
        mismatch: losses.MismatchConfig,
        *,
        max_response_tokens: int,
    ) -> None:
        self._algorithm, self._mismatch, self._max_response_tokens = algorithm, mismatch, max_response_tokens
        self.first_mean_dlogp: float | None = None
        """Limit in nats of the mean difference of engine and learner in the next update alone; None for none."""

    @property
    def needs_every_response(self) -> bool:
        """Whether responses without an advantage have a gradient, too."""
        return self._algorithm.needs_every_response

    def __call__(
        self, logp: Tensor, old_logp: Tensor, batch: Batch, scope: UpdateScope
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metrics; all tensors [B, R]. Metrics add up over micro-batches and ranks (see sailrl.algos);
        ``summary`` takes the sums."""
        sides = (old_logp, batch.engine_logp, batch.mask)
        metrics = measure(*sides, batch, scope)
        weight = self._weight(*sides)
        if weight is not None:
            metrics |= mismatch.correction_metrics(weight, *sides, denominator=scope.tokens)
        loss, loss_metrics = self._loss(logp, old_logp, batch, scope, weight)
        return loss, metrics | loss_metrics

    def regularisers(
        self, logp: Tensor, entropy: Tensor, reference_logp: Tensor | None, mask: Tensor, scope: UpdateScope
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What is added to the loss, and its metrics; all tensors [B, R].

        Args:
            reference_logp: under the start weights; None where there is no KL term.
        """
        algorithm = self._algorithm
        mean = mean_entropy(entropy, mask, denominator=scope.tokens)
        added, metrics = -algorithm.entropy_coef * mean, {"entropy": mean.detach()}
        if reference_logp is not None:
            kl, kl_metrics = kl_loss(
                logp, reference_logp, mask, estimator=algorithm.kl_estimator, denominator=scope.tokens
            )
            added, metrics = added + algorithm.kl_coef * kl, metrics | kl_metrics
        return added, metrics

    def numbers(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """The numbers to log, from the metrics of a whole update. Raises MismatchError as ``check`` does."""
        metrics = summary(sums)
        self.check(metrics)
        return metrics

    def check(self, metrics: dict[str, float]) -> None:
        """Checks the mismatch of a whole update before the optimizer step.

        Raises:
            MismatchError: it exceeds a limit of the section ``mismatch``, or is not a number.
        """
        limits = (
            ("max_abs_dlogp", self._mismatch.max_abs_dlogp, "mismatch.max_abs_dlogp"),
            ("k3", self._mismatch.max_k3, "mismatch.max_k3"),
            ("mean_abs_dlogp", self.first_mean_dlogp, "the first update's limit, which follows from the probe's,"),
        )
        for name, limit, setting in limits:
            value = metrics[f"mismatch/{name}"]
            if limit is not None and not value <= limit:  # not "greater": NaN must fail
                raise MismatchError(
                    f"engine and learner disagree on the responses of this update: mismatch/{name} is {value:.3g} nats "
                    f"and {setting} is {limit:g}. Nothing was learned from them."
                )
        self.first_mean_dlogp = None

    def _loss(
        self, logp: Tensor, old_logp: Tensor, batch: Batch, scope: UpdateScope, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the rows with an advantage, as a part of the mean over all rows."""
        loss, metrics = self._unscaled_loss(logp, old_logp, batch, scope, weight)
        by_tokens = isinstance(self._algorithm, losses.Dapo | losses.Cispo | losses.Vespo)
        return loss * (scope.token_share if by_tokens else scope.sequence_share), metrics

    def _unscaled_loss(
        self, logp: Tensor, old_logp: Tensor, batch: Batch, scope: UpdateScope, weight: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        algorithm, parts = self._algorithm, (logp, old_logp, batch.advantage, batch.mask)
        low, high = scope.clip_low, scope.clip_high
        tokens, sequences = scope.tokens, scope.sequences
        match algorithm:
            case losses.Dapo():
                dual = algorithm.dual_clip
                return dapo_loss(
                    *parts, clip_low=low, clip_high=high, denominator=tokens, dual_clip=dual, weight=weight
                )
            case losses.Gspo():
                return gspo_loss(*parts, clip_low=low, clip_high=high, denominator=sequences, weight=weight)
            case losses.GspoToken():
                return gspo_token_loss(*parts, clip_low=low, clip_high=high, denominator=sequences, weight=weight)
            case losses.Grpo():
                return grpo_loss(*parts, clip_low=low, clip_high=high, denominator=sequences, weight=weight)
            case losses.DrGrpo():
                longest = sequences * self._max_response_tokens
                return dr_grpo_loss(
                    *parts, clip_low=low, clip_high=high, denominator=longest, tokens=tokens, weight=weight
                )
            case losses.Cispo():
                return cispo_loss(*parts, clip_low=low, clip_high=high, denominator=tokens, weight=weight)
            case losses.Sapo():
                pos, neg = algorithm.tau_pos, algorithm.tau_neg
                return sapo_loss(*parts, denominator=sequences, tau_pos=pos, tau_neg=neg, weight=weight)
            case losses.Vespo():
                shape = algorithm.model_dump(include={"k_pos", "lambda_pos", "k_neg", "lambda_neg"})
                return vespo_loss(*parts, denominator=tokens, weight=weight, **shape)

    def _weight(self, old_logp: Tensor, engine_logp: Tensor, mask: Tensor) -> Tensor | None:
        """[B, R] importance weights, or None where all are 1."""
        sides, correction, veto_below = (
            (old_logp, engine_logp, mask),
            self._mismatch.correction,
            self._mismatch.veto_below,
        )
        weight: Tensor | None
        match correction:
            case losses.NoCorrection():
                weight = None
            case losses.TokenTis():
                weight = mismatch.token_tis(*sides, cap=correction.cap)
            case losses.IcePop():
                weight = mismatch.icepop(*sides, low=correction.low, high=correction.high)
            case losses.SequenceMask():
                weight = mismatch.sequence_mask(*sides, low=correction.low, high=correction.high)
            case losses.GeometricMask():
                weight = mismatch.geometric_mask(*sides, low=correction.low, high=correction.high)
        if veto_below is None:
            return weight
        veto = mismatch.veto(*sides, below=veto_below)
        return veto if weight is None else weight * veto


def measure(old_logp: Tensor, engine_logp: Tensor, mask: Tensor, batch: Batch, scope: UpdateScope) -> dict[str, Tensor]:
    """Mismatch metrics of engine and learner, with those of prompts with images under ``IMAGES``. They add up."""
    metrics = mismatch.mismatch_metrics(old_logp, engine_logp, mask, denominator=scope.tokens)
    metrics[HISTOGRAM] = mismatch.dlogp_histogram(old_logp, engine_logp, mask)
    if scope.image_tokens:
        has_images = torch.tensor([bool(images) for images in batch.images], device=mask.device)[:, None]
        of_images = mismatch.mismatch_metrics(old_logp, engine_logp, mask & has_images, denominator=scope.image_tokens)
        metrics |= {name.replace("mismatch/", IMAGES): value for name, value in of_images.items()}
    return metrics


def summary(metrics: dict[str, Tensor]) -> dict[str, float]:
    """The numbers to log, from the summed metrics of a whole update: also those computed from sums, as percentiles."""
    numbers = {name: float(value) for name, value in metrics.items() if name not in NOT_NUMBERS}
    return numbers | mismatch.derived_metrics(numbers, metrics[HISTOGRAM])
