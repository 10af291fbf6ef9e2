"""The loss of supervised stages, in the place of RL's ``Objective``."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sailrl.algos.nll import nll_loss
from sailrl.algos.regularise import mean_entropy
from sailrl.data.batch import Batch
from sailrl.learner.objective import UpdateScope


class SupervisedObjective:
    """Negative log-likelihood of the responses.

    Args:
        reduction: ``training.loss_reduction``, what the sum over the whole step is divided by.
    """

    needs_every_response = True
    advice = "Lower training.learning_rate, and run the same command to go on from the last checkpoint."

    def __init__(self, reduction: Literal["token_mean", "sample_sum"]) -> None:
        self._by_tokens = reduction == "token_mean"

    def __call__(
        self, logp: Tensor, old_logp: Tensor, batch: Batch, scope: UpdateScope
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As ``Objective``."""
        return nll_loss(logp, batch.mask, denominator=scope.tokens if self._by_tokens else scope.sequences)

    def regularisers(
        self, logp: Tensor, entropy: Tensor, reference_logp: Tensor | None, mask: Tensor, scope: UpdateScope
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As those of ``Objective``: adds nothing, and measures the entropy."""
        mean = mean_entropy(entropy, mask, denominator=scope.tokens).detach()
        return torch.zeros_like(mean), {"entropy": mean}

    def numbers(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """The numbers to log: ``loss``, ``entropy`` and ``nll``, the mean over tokens in either reduction; in nats."""
        kept = {name: float(sums[name]) for name in ("loss", "entropy", "router/balance_loss") if name in sums}
        return kept | {"nll": float(sums["nll/sum"] / sums["nll/tokens"])}
