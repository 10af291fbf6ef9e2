"""Denominators of an update, and how metrics of its parts are joined.

Each count is of the tensors given; add it up over the micro-batches and ranks of the update (one all-reduce), then
hand the total to the loss as ``denominator``. Dividing by the local count instead and averaging is the classic error:
tokens in short micro-batches would weigh more than tokens in long ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Denominator = float | Tensor
"""A positive number, or a 0-dim tensor that stays on its device; the same on every rank."""


def token_count(mask: Tensor) -> Tensor:
    """Number of unmasked tokens (0-dim float64, exact far beyond any batch): the denominator of DAPO, CISPO, token NLL.

    Source: DAPO (arXiv 2503.14476), token-level policy gradient, taken over all groups of the update.
    """
    return mask.bool().sum().double()


def sequence_count(mask: Tensor) -> Tensor:
    """Number of rows ``[B, T]`` with at least one unmasked token: the denominator of GSPO, GRPO, SAPO, sample NLL."""
    return mask.bool().any(dim=-1).sum().double()


def fixed_count(mask: Tensor, max_tokens: int) -> Tensor:
    """Rows with at least one unmasked token times ``max_tokens``: Dr.GRPO's length-free denominator.

    Source: Dr.GRPO (arXiv 2503.20783), which divides by a constant so that long wrong answers are not favoured.
    """
    return sequence_count(mask) * max_tokens


def is_max_metric(name: str) -> bool:
    """True where parts of a metric are joined by maximum, not by addition: ``.../max`` and ``.../max_...``."""
    last = name.rsplit("/", 1)[-1]
    return last == "max" or last.startswith("max_")


def merge_metrics(*parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Joins the metrics of micro-batches (or of ranks, once gathered); a name missing in one part is skipped there."""
    merged: dict[str, Tensor] = {}
    for part in parts:
        for name, value in part.items():
            if name not in merged:
                merged[name] = value
            elif is_max_metric(name):
                merged[name] = torch.maximum(merged[name], value)
            else:
                merged[name] = merged[name] + value
    return merged
