"""Every ratio loss under one signature, with typical settings: what the property tests run through."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sailrl.algos.cispo import cispo_loss
from sailrl.algos.dapo import dapo_loss
from sailrl.algos.dr_grpo import dr_grpo_loss
from sailrl.algos.grpo import grpo_loss
from sailrl.algos.gspo import gspo_loss, gspo_token_loss
from sailrl.algos.sapo import sapo_loss
from sailrl.algos.vespo import vespo_loss
from tests.unit.algos.by_hand import Batch

Result = tuple[Tensor, dict[str, Tensor]]
Loss = Callable[[Tensor, Batch, Batch], Result]
"""``loss(logp, part, whole)``: of ``part`` with ``logp`` in place of its own, by the denominators of ``whole``."""

LONGEST = 64


def _tensors(logp: Tensor, part: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return logp, part.old_logp, part.adv, part.mask


def _dapo(logp: Tensor, part: Batch, whole: Batch) -> Result:
    return dapo_loss(
        *_tensors(logp, part),
        clip_low=0.2,
        clip_high=0.28,
        dual_clip=3.0,
        denominator=max(whole.tokens, 1),
        weight=part.weight,
    )


def _gspo(logp: Tensor, part: Batch, whole: Batch) -> Result:
    return gspo_loss(
        *_tensors(logp, part), clip_low=0.05, clip_high=0.07, denominator=max(whole.sequences, 1), weight=part.weight
    )


def _gspo_token(logp: Tensor, part: Batch, whole: Batch) -> Result:
    return gspo_token_loss(
        *_tensors(logp, part), clip_low=0.05, clip_high=0.07, denominator=max(whole.sequences, 1), weight=part.weight
    )


def _grpo(logp: Tensor, part: Batch, whole: Batch) -> Result:
    return grpo_loss(
        *_tensors(logp, part), clip_low=0.2, clip_high=0.28, denominator=max(whole.sequences, 1), weight=part.weight
    )


def _dr_grpo(logp: Tensor, part: Batch, whole: Batch) -> Result:
    return dr_grpo_loss(
        *_tensors(logp, part),
        clip_low=0.2,
        clip_high=0.28,
        denominator=max(whole.sequences, 1) * LONGEST,
        tokens=max(whole.tokens, 1),
        weight=part.weight,
    )


def _cispo(logp: Tensor, part: Batch, whole: Batch) -> Result:
    return cispo_loss(
        *_tensors(logp, part), clip_low=0.9, clip_high=4.0, denominator=max(whole.tokens, 1), weight=part.weight
    )


def _sapo(logp: Tensor, part: Batch, whole: Batch) -> Result:
    return sapo_loss(*_tensors(logp, part), denominator=max(whole.sequences, 1), weight=part.weight)


def _vespo(logp: Tensor, part: Batch, whole: Batch) -> Result:
    return vespo_loss(*_tensors(logp, part), denominator=max(whole.tokens, 1), weight=part.weight)


LOSSES: dict[str, Loss] = {
    "dapo": _dapo,
    "gspo": _gspo,
    "gspo_token": _gspo_token,
    "grpo": _grpo,
    "dr_grpo": _dr_grpo,
    "cispo": _cispo,
    "sapo": _sapo,
    "vespo": _vespo,
}
