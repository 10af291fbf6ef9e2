"""The reference policy of a KL term: the weights that the run started with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sailrl.data.batch import Batch
from sailrl.learner.model import Policy


class ReferencePolicy:
    """Log-probabilities under the start weights: a copy that is never trained, or the policy without its adapter.

    Args:
        policy: the one that is trained.
        copy: the start weights; None where ``policy`` has an adapter on them.
    """

    def __init__(self, policy: Policy, copy: Policy | None) -> None:
        self._policy, self._copy = policy, copy
        if copy is not None:
            copy.requires_grad_(False)

    @torch.no_grad()
    def __call__(self, batch: Batch, *, run_vision: bool = False) -> torch.Tensor:
        """[B, R] float32 in nats, 0 where the mask is False (all ranks together)."""
        if self._copy is not None:
            return self._copy(batch, run_vision=run_vision)[0]
        with _without_adapter(self._policy.model):
            return self._policy(batch, run_vision=run_vision)[0]


@contextmanager
def _without_adapter(model: Any) -> Iterator[None]:
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer._disable_adapters = True  # enable_adapters() would also change what is trained
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False
