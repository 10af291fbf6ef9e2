"""Mixtures of experts in the learner: routing measured, balanced and replayed, through hooks on the model's routers.

For a dense model, which has no routers, everything here does nothing. Routers are transformers' modules
called ``...TopKRouter`` that return ``(logits, scores, experts)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sailrl.algos import router
from sailrl.data.batch import Batch, Sample
from sailrl.errors import LearnerError
from sailrl.learner.attention import take

COUNTS, CHANGED = "router/counts", "router/changed"
"""Sums for ``load_metrics``: choices [layers, experts], and the number of choices that replay replaced."""


class Routing:
    """What the routers did in one forward pass, for the M tokens of its samples: a shared prompt is routed once and
    counted once per sample. So the numbers do not depend on which samples share a row, unless an engine chose
    different experts for the same prompt at different times."""

    batch: Batch
    """The input of the forward pass; see ``Routers.set_batch``."""

    def __init__(self, replay: Tensor | None) -> None:
        self.replay = replay
        """[layers, M, K] experts to use instead of the routers' own choice; None for their own. For a shared
        prompt, those of the first sample that has it."""
        self.logits: dict[int, Tensor] = {}
        """By layer, [N, E] float32 with gradient, of the row."""
        self.experts: dict[int, Tensor] = {}
        """By layer, [N, K] int64, the experts used, of the row."""
        self.undone: Tensor = torch.zeros((), dtype=torch.float64)
        """Choices of the routers that replay replaced, over all layers."""

    def stacked(self) -> Tensor:
        """[layers, M, K] int16."""
        used = torch.stack([self.experts[layer] for layer in sorted(self.experts)])
        return used[:, self.batch.places].to(torch.int16)

    def metrics(self) -> dict[str, Tensor]:
        """Sums that add up over micro-batches and ranks; nothing for a dense model."""
        if not self.experts:
            return {}
        counts = [
            router.expert_counts(self.experts[layer][self.batch.places], self.logits[layer].shape[-1])
            for layer in sorted(self.experts)
        ]
        return {COUNTS: torch.stack(counts)} | ({} if self.replay is None else {CHANGED: self.undone})

    def balance_loss(self, fraction: Tensor, tokens: Tensor) -> Tensor:
        """Mean over layers of the balancing loss, 1 when all experts are used alike.

        Args:
            fraction: [layers, E] load of the whole update over all ranks.
            tokens: 0-dim, tokens of the whole update, prompts included.
        """
        parts = [
            router.load_balancing_loss(take(logits, self.batch.places), fraction[layer], denominator=tokens)[0]
            for layer, logits in self.logits.items()
        ]
        return torch.stack(parts).mean()


class Routers:
    """The routers of a model, in the order of its layers."""

    def __init__(self, model: torch.nn.Module, *, float32: bool = True) -> None:
        self.names = [name for name, module in model.named_modules() if type(module).__name__.endswith("TopKRouter")]
        self._float32 = float32
        self._routing: Routing | None = None
        self._orders: Mapping[int, Tensor] = {}
        modules: list[Any] = [model.get_submodule(name) for name in self.names]
        self.experts: int = modules[0].num_experts if modules else 0
        """Experts per layer."""
        self.experts_per_token: int = modules[0].top_k if modules else 0
        for layer, module in enumerate(modules):
            module.register_forward_hook(partial(self._hook, layer))

    def no_counts(self, device: torch.device) -> dict[str, Tensor]:
        """The counts of no token at all: those of a rank without rows."""
        return {COUNTS: torch.zeros(len(self.names), self.experts, dtype=torch.float64, device=device)}

    def set_batch(self, batch: Batch) -> None:
        """Called by the policy before each forward pass with its input."""
        if self._routing is not None:
            self._routing.batch = batch

    @contextmanager
    def watch(self, *, replay: Tensor | None = None) -> Iterator[Routing]:
        """Records one forward pass. The backward pass must be inside, too: activation checkpointing routes again there.

        Args:
            replay: see ``Routing``.

        Raises:
            LearnerError: layers or tokens of the forward pass are not those of ``replay``.
        """
        self._routing = routing = Routing(replay)
        try:
            yield routing
        finally:
            self._routing = None
        if replay is not None and len(routing.experts) != len(replay):
            raise LearnerError(
                f"routing replay holds {len(replay)} layers, but {len(routing.experts)} were run: the model changed "
                "between the recording and the update"
            )

    @contextmanager
    def permuted(self, orders: Mapping[int, Tensor]) -> Iterator[None]:
        """Routes as if slot ``e`` of a layer had expert ``orders[layer][e]``; other layers are unchanged."""
        self._orders = orders
        try:
            yield
        finally:
            self._orders = {}

    def _hook(self, layer: int, module: Any, args: tuple[Tensor, ...], output: Any) -> Any:
        hidden = args[0].reshape(-1, module.hidden_dim)
        logits, scores, experts = output
        if self._float32 and logits.dtype != torch.float32:
            with torch.autocast(hidden.device.type, enabled=False):
                logits = torch.nn.functional.linear(hidden.float(), module.weight.float())
            experts = logits.topk(module.top_k, dim=-1).indices
        routing = self._routing
        if routing is not None and routing.replay is not None:
            replay = _replayed(layer, routing, experts)
            if layer not in routing.experts:
                kept = (experts.unsqueeze(-1) == replay.unsqueeze(-2)).any(-1)
                routing.undone = routing.undone + (~kept)[routing.batch.places].sum().double()
            experts = replay
        if (
            routing is not None and layer not in routing.experts
        ):  # not a second time when activation checkpointing recomputes
            routing.experts[layer], routing.logits[layer] = experts, logits
        if experts is output[2] and layer not in self._orders:
            return output
        probabilities = logits.softmax(dim=-1, dtype=torch.float32).gather(-1, experts)
        if getattr(module, "norm_topk_prob", True):
            probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
        if layer in self._orders:
            experts = self._orders[layer].to(experts.device)[experts]
        return logits, probabilities.to(scores.dtype), experts


def _replayed(layer: int, routing: Routing, own: Tensor) -> Tensor:
    assert routing.replay is not None
    held, expected = tuple(routing.replay.shape), (len(routing.batch.places), own.shape[-1])
    if layer >= len(routing.replay) or held[1:] != expected:
        raise LearnerError(
            f"routing replay holds {held} (layers, tokens, experts per token), but layer {layer} asks for "
            f"{expected}: recording and update do not see the same tokens"
        )
    return routing.replay[layer].to(own.device, own.dtype)[routing.batch.owners]


class RoutingMemory:
    """The experts that each sample of an episode was routed to: in the forward pass that computed pi_old (R2,
    ``keep``), or by the engine that sampled the response (R3, arXiv 2510.11370, ``take``)."""

    def __init__(self) -> None:
        self._rows: dict[int, Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self._rows)

    def clear(self) -> None:
        """Drops the recordings of the last episode."""
        self._rows.clear()

    def keep(self, rows: Sequence[int], routing: Routing) -> None:
        """Records the experts that ``routing`` used for the samples ``rows``, which are its batch in this order."""
        for row, experts in zip(rows, routing.stacked().cpu().split(routing.batch.lengths, dim=1), strict=True):
            self._rows[row] = experts

    def take(self, row: int, sample: Sample, routers: Routers) -> None:
        """Records the experts that the engine used for a sample: for every token but the last, which is no input of
        engine or learner.

        Raises:
            LearnerError: layers, tokens or experts per token are not the model's and the sample's own.
        """
        if sample.experts is None:
            raise LearnerError(
                f"routing replay r3 needs the experts that the engine chose, but sample {row} has none. Let the "
                "engine return them, or write learner.routing_replay: r2."
            )
        held, expected = sample.experts.shape, (len(routers.names), sample.length - 1, routers.experts_per_token)
        if held != expected:
            raise LearnerError(
                f"the engine returned experts of shape {held} (layers, tokens, experts per token) for sample {row}, "
                f"where the learner needs {expected}: they do not run the same model on the same tokens"
            )
        experts = torch.from_numpy(sample.experts.astype(np.int16))
        if experts.max() >= routers.experts:
            raise LearnerError(
                f"the engine returned expert {int(experts.max())} for sample {row}, but the learner's layers have "
                f"{routers.experts}, numbered from 0"
            )
        self._rows[row] = experts

    def replay(self, rows: Sequence[int], lengths: Sequence[int]) -> Tensor | None:
        """[layers, M, K] for these samples in this order; None when nothing was recorded.

        Raises:
            LearnerError: a sample was not recorded, or with another length.
        """
        if not self._rows:
            return None
        parts = []
        for row, length in zip(rows, lengths, strict=True):
            recorded = self._rows.get(row)
            if recorded is None or recorded.shape[1] != length:
                what = "nothing" if recorded is None else f"{recorded.shape[1]} tokens"
                raise LearnerError(f"routing replay has {what} of sample {row}, which has {length} tokens")
            parts.append(recorded)
        return torch.cat(parts, dim=1)


def over_ranks(counts: Tensor, experts_per_token: int) -> tuple[Tensor, Tensor]:
    """``(fraction [layers, E], tokens)`` of an update over all ranks, from this rank's counts."""
    if dist.is_initialized():
        dist.all_reduce(counts)
    return router.load_fraction(counts), counts[0].sum() / experts_per_token


def load_metrics(metrics: Mapping[str, Tensor], prefix: str = "router/") -> dict[str, float]:
    """How evenly the experts were used, from sums over a whole update; empty for a dense model.

    ``load_entropy/mean`` and ``load_entropy/layer_<i>``: entropy of the load over its maximum, log E; 1 is even.
    ``dead_experts``: experts that no token was sent to, over all layers. ``changed_fraction``: with replay, the share
    of the routers' choices that replay replaced.
    """
    if COUNTS not in metrics:
        return {}
    counts = metrics[COUNTS]
    entropy = router.relative_load_entropy(router.load_fraction(counts)).tolist()
    numbers = {f"{prefix}load_entropy/layer_{layer}": value for layer, value in enumerate(entropy)}
    numbers[f"{prefix}load_entropy/mean"] = sum(entropy) / len(entropy)
    numbers[f"{prefix}dead_experts"] = float(router.dead_experts(counts).sum())
    if CHANGED in metrics:
        numbers[f"{prefix}changed_fraction"] = float(metrics[CHANGED] / counts.sum())
    return numbers
