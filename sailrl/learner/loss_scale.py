"""The scale of losses in float16: multiplied before the backward pass, divided out of float32 gradients after it.

float16 holds numbers from 6e-8 to 65,504. Losses are divided by the tokens of a whole update, so most gradients inside
the model would be rounded to 0; multiplied by a power of two they are in range, and dividing by it is exact. The rules
are those of torch's ``GradScaler`` (Micikevicius et al., arXiv 1710.03740). It is not used itself because it keeps its
scale on the GPU and copies it to gradients in host memory (``learner.offload``) without synchronising. Here the scale
is a Python number, and overflow is detected by the gradient norm, which all ranks have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

FIRST = 2.0**16
GROWTH_INTERVAL = 200
"""Updates in a row without an overflow after which the scale doubles. GradScaler's 2,000 are more than most runs."""


class LossScale:
    """Dynamic loss scaling for a forward pass in float16; in any other precision the scale is 1 and stays so."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.enabled = dtype == torch.float16
        self.value = FIRST if self.enabled else 1.0
        self.good_updates = 0
        """Updates in a row without an overflow, at this scale."""

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """What to call ``backward`` on."""
        return loss * self.value if self.enabled else loss

    def unscale(self, gradients: Iterable[torch.Tensor]) -> None:
        """Divides float32 gradients by the scale, in place."""
        if self.enabled:
            for gradient in gradients:
                gradient.mul_(1.0 / self.value)

    def adapt(self, *, finite: bool) -> None:
        """Halves the scale, never below 1, when a gradient of the update was not finite; may double it otherwise."""
        if not self.enabled:
            return
        self.good_updates = self.good_updates + 1 if finite else 0
        if not finite:
            self.value = max(1.0, self.value / 2)
        elif self.good_updates == GROWTH_INTERVAL:
            self.value, self.good_updates = self.value * 2, 0

    def state_dict(self) -> dict[str, float]:
        """JSON-able; empty in other precisions than float16."""
        return {"loss_scale": self.value, "good_updates": self.good_updates} if self.enabled else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads a state of ``state_dict``. It is ignored where either run is not in float16.

        Raises:
            KeyError, TypeError, ValueError: the state is damaged.
        """
        if self.enabled and "loss_scale" in state:
            self.value, self.good_updates = float(state["loss_scale"]), int(state["good_updates"])
