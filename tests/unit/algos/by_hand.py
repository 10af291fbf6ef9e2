"""The losses once more, as a person would compute them: plain floats, one token at a time, the gradient by the rules of
calculus. Nothing here uses torch's autograd or our code, so that an error cannot be made twice.

Every function returns ``(loss, gradient)``, the gradient with respect to ``logp[i][t]``, for a batch given as lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Rows = list[list[float]]


@dataclass(frozen=True)
class Batch:
    """One update: logp, old_logp, adv, mask, weight, each ``[B, T]`` float64 (mask bool)."""

    logp: Tensor
    old_logp: Tensor
    adv: Tensor
    mask: Tensor
    weight: Tensor

    def rows(self, chosen: list[int]) -> Batch:
        return Batch(*(x[chosen] for x in (self.logp, self.old_logp, self.adv, self.mask, self.weight)))

    @property
    def tokens(self) -> int:
        return int(self.mask.sum())

    @property
    def sequences(self) -> int:
        return int(self.mask.any(dim=1).sum())


def random_batch(seed: int, rows: int = 5, columns: int = 7, spread: float = 0.3) -> Batch:
    """Lengths from 0 to ``columns``, holes in the mask (as tool calls leave them), log-ratios of about ``spread``."""
    draw = torch.Generator().manual_seed(seed)
    logp = -torch.rand(rows, columns, generator=draw, dtype=torch.float64) * 3
    old_logp = logp + spread * torch.randn(rows, columns, generator=draw, dtype=torch.float64)
    adv = torch.randn(rows, 1, generator=draw, dtype=torch.float64).expand(rows, columns).contiguous()
    lengths = torch.randint(0, columns + 1, (rows, 1), generator=draw)
    lengths[0] = columns
    holes = torch.rand(rows, columns, generator=draw) < 0.15
    holes[0] = False
    mask = (torch.arange(columns) < lengths) & ~holes
    weight = 0.2 + 1.8 * torch.rand(rows, columns, generator=draw, dtype=torch.float64)
    return Batch(logp, old_logp, adv, mask, weight)


def tokenwise(
    batch: Batch, term: Callable[[float, float, float], tuple[float, float]], denominator: float, mean_over_rows: bool
) -> tuple[float, Rows]:
    """Sums ``term(logp, old_logp, adv) -> (value, slope)`` over tokens, each over its row's length where asked."""
    loss, gradient = 0.0, [[0.0] * batch.logp.shape[1] for _ in batch.logp]
    for i, row in enumerate(batch.mask.tolist()):
        for t, counted in enumerate(row):
            if not counted:
                continue
            value, slope = term(float(batch.logp[i, t]), float(batch.old_logp[i, t]), float(batch.adv[i, t]))
            part = float(batch.weight[i, t]) / denominator / (sum(row) if mean_over_rows else 1)
            loss += value * part
            gradient[i][t] += slope * part
    return loss, gradient


def clipped_term(
    low: float, high: float, dual: float | None = None
) -> Callable[[float, float, float], tuple[float, float]]:
    """``-min(r A, clip(r) A)``: dr/dlogp = r, so the slope is -A r, or 0 where the clipped side is the smaller one."""

    def term(logp: float, old_logp: float, adv: float) -> tuple[float, float]:
        ratio = math.exp(logp - old_logp)
        if adv >= 0 and ratio > 1 + high:
            return -adv * (1 + high), 0.0
        if adv < 0 and ratio < 1 - low:
            return -adv * (1 - low), 0.0
        if adv < 0 and dual is not None and ratio > dual:
            return -adv * dual, 0.0
        return -adv * ratio, -adv * ratio

    return term


def cispo_term(low: float | None, high: float) -> Callable[[float, float, float], tuple[float, float]]:
    """``-c A logp`` with a constant c = clip(r): the slope is -c A."""

    def term(logp: float, old_logp: float, adv: float) -> tuple[float, float]:
        cut = min(math.exp(logp - old_logp), 1 + high)
        cut = cut if low is None else max(cut, 1 - low)
        return -cut * adv * logp, -cut * adv

    return term


def sapo_term(tau_pos: float, tau_neg: float) -> Callable[[float, float, float], tuple[float, float]]:
    """``-A (4/tau) g`` with g = sigmoid(tau (r - 1)): dg/dlogp = g (1 - g) tau r, so the slope is -4 A g (1 - g) r."""

    def term(logp: float, old_logp: float, adv: float) -> tuple[float, float]:
        ratio = math.exp(logp - old_logp)
        tau = tau_pos if adv > 0 else tau_neg
        gate = 1 / (1 + math.exp(-tau * (ratio - 1)))
        return -adv * 4 / tau * gate, -4 * adv * gate * (1 - gate) * ratio

    return term


def gspo(batch: Batch, low: float, high: float, denominator: float) -> tuple[float, Rows]:
    """Sequence form: one ratio s per row; ds/dlogp_t = s / |y|; the row is weighted by the mean of its weights."""
    loss, gradient = 0.0, [[0.0] * batch.logp.shape[1] for _ in batch.logp]
    for i, row in enumerate(batch.mask.tolist()):
        kept = [t for t, counted in enumerate(row) if counted]
        if not kept:
            continue
        length = len(kept)
        ratio = math.exp(sum(float(batch.logp[i, t] - batch.old_logp[i, t]) for t in kept) / length)
        adv = float(batch.adv[i, kept[0]])
        weight = sum(float(batch.weight[i, t]) for t in kept) / length
        clipped = (adv >= 0 and ratio > 1 + high) or (adv < 0 and ratio < 1 - low)
        bound = 1 + high if adv >= 0 else 1 - low
        loss += -adv * (bound if clipped else ratio) * weight / denominator
        for t in kept:
            gradient[i][t] = 0.0 if clipped else -adv * ratio * weight / length / denominator
    return loss, gradient


def gspo_token(batch: Batch, low: float, high: float, denominator: float) -> tuple[float, Rows]:
    """Token form: the row's ratio in value, each token with its own slope, advantage and weight; mean over the row."""
    loss, gradient = 0.0, [[0.0] * batch.logp.shape[1] for _ in batch.logp]
    for i, row in enumerate(batch.mask.tolist()):
        kept = [t for t, counted in enumerate(row) if counted]
        if not kept:
            continue
        ratio = math.exp(sum(float(batch.logp[i, t] - batch.old_logp[i, t]) for t in kept) / len(kept))
        for t in kept:
            adv, part = float(batch.adv[i, t]), float(batch.weight[i, t]) / len(kept) / denominator
            clipped = (adv >= 0 and ratio > 1 + high) or (adv < 0 and ratio < 1 - low)
            bound = 1 + high if adv >= 0 else 1 - low
            loss += -adv * (bound if clipped else ratio) * part
            gradient[i][t] = 0.0 if clipped else -adv * ratio * part
    return loss, gradient


def vespo(
    batch: Batch, positive: tuple[float, float], negative: tuple[float, float], denominator: float
) -> tuple[float, Rows]:
    """One constant per row, W^k exp(lambda (1 - W)) with W the product of weight x ratio; then ``-phi A logp``."""
    loss, gradient = 0.0, [[0.0] * batch.logp.shape[1] for _ in batch.logp]
    for i, row in enumerate(batch.mask.tolist()):
        kept = [t for t, counted in enumerate(row) if counted]
        whole = 1.0
        for t in kept:
            whole *= float(batch.weight[i, t]) * math.exp(float(batch.logp[i, t] - batch.old_logp[i, t]))
        whole = max(whole, 1e-8)
        for t in kept:
            adv = float(batch.adv[i, t])
            k, rate = positive if adv >= 0 else negative
            phi = whole**k * math.exp(rate * (1 - whole))
            loss += -phi * adv * float(batch.logp[i, t]) / denominator
            gradient[i][t] += -phi * adv / denominator
    return loss, gradient
