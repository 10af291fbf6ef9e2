"""How metrics of the parts of an update are joined, and the type of its denominator.

A denominator counts the tokens or sequences of the whole update, over all micro-batches and ranks. Dividing by the
count of each micro-batch instead and averaging is a common error: tokens in short micro-batches would weigh more than
tokens in long ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Denominator = float | Tensor
"""A positive number, or a 0-dim tensor that stays on its device; the same on every rank."""


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
