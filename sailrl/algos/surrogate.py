"""What the ratio losses share: checked inputs, the safe log-ratio, the clipped surrogate and its metrics."""

from __future__ import annotations

import torch
from torch import Tensor

from sailrl.algos.reduce import Denominator

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this many nats either way: exp(20) is 5e8, finite in float32 and far past any clip."""

Metrics = dict[str, Tensor]


def prepare(
    logp: Tensor, old_logp: Tensor, adv: Tensor, mask: Tensor, weight: Tensor | None, denominator: Denominator
) -> tuple[Tensor, Tensor, Tensor]:
    """Checks shapes and returns ``(keep, adv, weight)``, bool and two detached tensors in the shape of ``logp``.

    ``adv`` and ``weight`` are 0 where masked (by ``where``: a product would let a NaN through), ``weight`` is 1
    elsewhere unless given. Shapes are compared because broadcasting ``[T]`` against ``[B, T]`` trains on nonsense
    without an error.

    Raises:
        ValueError: a shape differs from ``logp``'s, or the denominator is a number that is not positive.
    """
    for name, tensor in (("old_logp", old_logp), ("mask", mask), ("weight", weight)):
        if tensor is not None and tensor.shape != logp.shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, logp has {tuple(logp.shape)}; they must be equal"
            )
    if adv.dim() == logp.dim() - 1:
        adv = adv.unsqueeze(-1)
    if adv.shape != logp.shape and adv.shape != (*logp.shape[:-1], 1):
        raise ValueError(f"adv has shape {tuple(adv.shape)}, logp has {tuple(logp.shape)}; give [B, T], [B, 1] or [B]")
    if not isinstance(denominator, Tensor) and not denominator > 0:
        raise ValueError(f"denominator is {denominator}; it counts the tokens or sequences of the update, at least 1")
    keep = mask.bool()
    zero = torch.zeros((), dtype=logp.dtype, device=logp.device)
    adv = torch.where(keep, adv.detach().to(logp.dtype), zero)
    if weight is None:
        return keep, adv, keep.to(logp.dtype)
    return keep, adv, torch.where(keep, weight.detach().to(logp.dtype), zero)


def safe_log_ratio(logp: Tensor, old_logp: Tensor, keep: Tensor) -> Tensor:
    """``log(pi_theta / pi_old)`` in nats, 0 where masked. Masked first and clamped before any exp: no NaN, no inf."""
    return torch.where(keep, logp - old_logp.detach(), 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def clipped_surrogate(ratio: Tensor, adv: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """``-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)``, to be minimised. Source: PPO (arXiv 1707.06347), Eq. 7."""
    return torch.maximum(-adv * ratio, -adv * ratio.clamp(1 - clip_low, 1 + clip_high))


def per_sequence(keep: Tensor, dtype: torch.dtype) -> Tensor:
    """``[B, T]`` shares ``1 / |o_i|`` of each unmasked token in its row; a row without tokens has none (all 0).

    Raises:
        ValueError: packed ``[N]`` input, which would count as one single response.
    """
    require_rows(keep)
    return keep.to(dtype) / keep.sum(dim=-1, keepdim=True).clamp(min=1)


def require_rows(mask: Tensor) -> None:
    """Refuses packed ``[N]`` where a sequence must be a row."""
    if mask.dim() < 2:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; here each response must be a row of [B, T], not packed")


@torch.no_grad()
def ratio_metrics(
    log_ratio: Tensor,
    adv: Tensor,
    share: Tensor,
    denominator: Denominator,
    *,
    clip_low: float | None = None,
    clip_high: float | None = None,
) -> Metrics:
    """Metrics of a ratio loss, weighted like the loss itself; ``share`` is each token's part (1, or ``1 / |o_i|``).

    ``clip/low_fraction`` and ``clip/high_fraction``: share of tokens (or sequences) whose gradient the lower or upper
    bound removed, that is outside the range **and** on the side that the advantage's sign makes active.
    ``approx_kl``: k3 estimate of KL(old || new) in nats, ``r - 1 - log r``. ``ratio/mean``; ``ratio/max``.
    """
    ratio = log_ratio.exp()
    metrics = {
        "approx_kl": ((ratio - 1 - log_ratio) * share).sum() / denominator,
        "ratio/mean": (ratio * share).sum() / denominator,
        "ratio/max": torch.where(share > 0, ratio, 0.0).max() if ratio.numel() else ratio.sum(),
    }
    if clip_low is not None:
        metrics["clip/low_fraction"] = (share * ((adv < 0) & (ratio < 1 - clip_low))).sum() / denominator
    if clip_high is not None:
        metrics["clip/high_fraction"] = (share * ((adv > 0) & (ratio > 1 + clip_high))).sum() / denominator
    return metrics
