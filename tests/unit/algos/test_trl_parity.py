"""Our losses beside TRL's: the same batch through ``GRPOTrainer._compute_loss``, loss and gradient within 1e-6.

TRL computes its losses inside the trainer. Here a trainer is made without its constructor (no model, no data, no
engine) and given only what the loss reads; where it would run a model it is handed the log-probabilities of the batch.
TRL's loss code itself runs untouched.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sailrl.algos.advantages import decoupled_advantages, group_advantages
from sailrl.algos.cispo import cispo_loss
from sailrl.algos.dapo import dapo_loss
from sailrl.algos.dr_grpo import dr_grpo_loss
from sailrl.algos.grpo import grpo_loss
from sailrl.algos.gspo import gspo_loss, gspo_token_loss
from sailrl.algos.logprobs import token_logprobs
from sailrl.algos.regularise import kl_loss
from sailrl.algos.sapo import sapo_loss
from sailrl.algos.vespo import vespo_loss
from tests.unit.algos.by_hand import Batch, random_batch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about the version of vLLM, which plays no part here
    trl_trainer = pytest.importorskip("trl.trainer.grpo_trainer", exc_type=ImportError)

pytestmark = pytest.mark.slow  # importing TRL alone takes ten seconds

LONGEST = 64


class OneProcess:
    """The part of an accelerator that the loss asks for, with one process."""

    num_processes = 1

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor


class LossOnly(trl_trainer.GRPOTrainer):  # type: ignore[name-defined]
    """TRL's trainer with nothing but its loss."""

    def __init__(self, loss_type: str, level: str, low: float, high: float) -> None:
        self.loss_type, self.importance_sampling_level = loss_type, level
        self.epsilon_low, self.epsilon_high, self.beta = low, high, 0.0
        self.args = SimpleNamespace(
            delta=None,
            use_bias_correction_kl=False,
            vespo_k_pos=2.0,
            vespo_lambda_pos=3.0,
            vespo_k_neg=3.0,
            vespo_lambda_neg=2.0,
            sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.05,
            steps_per_generation=1,
        )
        self.top_entropy_quantile, self.off_policy_mask_threshold = 1.0, None
        self.use_vllm = self.vllm_importance_sampling_correction = True  # applies importance_sampling_ratio
        self.max_completion_length, self.current_gradient_accumulation_steps = LONGEST, 1
        self.aux_loss_enabled = self._entropy_bonus_enabled = False
        self.model = SimpleNamespace(training=True)
        self.accelerator = OneProcess()
        self._metrics: Any = {"train": defaultdict(list)}
        self.logp = torch.empty(0)

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, None]:
        return self.logp, torch.zeros_like(self.logp), None

    def loss(self, logp: Tensor, batch: Batch, *, beta: float = 0.0, reference: Tensor | None = None) -> Tensor:
        self.logp, self.beta = logp, beta
        ids = torch.zeros_like(batch.mask, dtype=torch.long)
        inputs = {
            "prompt_ids": ids[:, :1],
            "prompt_mask": ids[:, :1],
            "completion_ids": ids,
            "completion_mask": batch.mask.long(),
            "advantages": batch.adv[:, 0],
            "old_per_token_logps": batch.old_logp,
            "importance_sampling_ratio": batch.weight,
            "num_items_in_batch": batch.mask.sum(),
            "ref_per_token_logps": reference,
        }
        return self._compute_loss(None, inputs)


def full_rows(seed: int, spread: float) -> Batch:
    """No row without tokens: TRL counts such a row in its means over sequences, we do not."""
    batch = random_batch(seed, rows=6, columns=9, spread=spread)
    mask = batch.mask.clone()
    mask[:, 0] = True
    return Batch(batch.logp, batch.old_logp, batch.adv, mask, batch.weight)


def ours(name: str, logp: Tensor, b: Batch) -> Tensor:
    tensors = logp, b.old_logp, b.adv, b.mask
    clip: dict[str, Any] = {"clip_low": 0.2, "clip_high": 0.28, "weight": b.weight}
    narrow: dict[str, Any] = {"clip_low": 0.02, "clip_high": 0.03, "weight": b.weight}
    match name:
        case "dapo":
            return dapo_loss(*tensors, **clip, denominator=b.tokens)[0]
        case "grpo":
            return grpo_loss(*tensors, **clip, denominator=b.sequences)[0]
        case "dr_grpo":
            return dr_grpo_loss(*tensors, **clip, denominator=b.sequences * LONGEST, tokens=b.tokens)[0]
        case "cispo":
            return cispo_loss(*tensors, clip_high=0.5, denominator=b.tokens, weight=b.weight)[0]
        case "sapo":
            return sapo_loss(*tensors, denominator=b.sequences, weight=b.weight)[0]
        case "vespo":
            return vespo_loss(*tensors, denominator=b.tokens, weight=b.weight)[0]
        case "gspo":
            return gspo_loss(*tensors, **narrow, denominator=b.sequences)[0]
        case _:
            even = torch.ones_like(b.weight)
            return gspo_token_loss(*tensors, **{**narrow, "weight": even}, denominator=b.sequences)[0]


THEIRS = {
    "dapo": ("dapo", "token", 0.2, 0.28),
    "grpo": ("grpo", "token", 0.2, 0.28),
    "dr_grpo": ("dr_grpo", "token", 0.2, 0.28),
    "cispo": ("cispo", "token", 0.2, 1.5),  # TRL's number is the bound on the ratio itself
    "sapo": ("sapo", "token", 0.2, 0.28),
    "vespo": ("vespo", "token", 0.2, 0.28),
    "gspo": ("grpo", "sequence", 0.02, 0.03),
    "gspo_token": ("grpo", "sequence", 0.02, 0.03),
}


@pytest.mark.parametrize("spread", [0.1, 0.6])
@pytest.mark.parametrize("name", sorted(THEIRS))
def test_loss_and_gradient_equal_trl(name: str, spread: float) -> None:
    for seed in range(5):
        batch = full_rows(seed, spread)
        if name == "gspo_token":  # TRL has the sequence form only: equal where weights are constant
            batch = Batch(batch.logp, batch.old_logp, batch.adv, batch.mask, torch.ones_like(batch.weight))
        if name == "vespo":  # TRL's product of weights also counts padding, where its weights are 1
            weight = torch.where(batch.mask, batch.weight, 1.0)
            batch = Batch(batch.logp, batch.old_logp, batch.adv, batch.mask, weight)
        results = []
        for compute in (lambda x, b=batch: ours(name, x, b), lambda x, b=batch: LossOnly(*THEIRS[name]).loss(x, b)):
            leaf = batch.logp.clone().requires_grad_()
            loss = compute(leaf)
            results.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
        (loss, grad), (their_loss, their_grad) = results
        assert abs(loss - their_loss) <= 1e-6 * abs(their_loss)
        assert (grad - their_grad).norm() <= 1e-6 * their_grad.norm()
        assert their_grad.norm() > 0


def test_a_kl_term_equals_trl() -> None:
    for seed in range(5):
        batch = full_rows(seed, 0.3)
        even = Batch(batch.logp, batch.old_logp, batch.adv, batch.mask, torch.ones_like(batch.weight))
        reference = batch.logp + 0.4 * torch.randn_like(batch.logp)
        grads = []
        for theirs in (True, False):
            leaf = batch.logp.clone().requires_grad_()
            if theirs:
                loss = LossOnly(*THEIRS["dapo"]).loss(leaf, even, beta=0.5, reference=reference)
            else:
                kl, _ = kl_loss(leaf, reference, even.mask, estimator="k3", denominator=even.tokens)
                loss = ours("dapo", leaf, even) + 0.5 * kl
            grads.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
        (their_loss, their_grad), (loss, grad) = grads
        assert abs(loss - their_loss) <= 1e-6 * abs(their_loss)
        assert (grad - their_grad).norm() <= 1e-6 * their_grad.norm()


def test_rewards_that_are_normalised_one_by_one_follow_the_formula_with_trls_constants() -> None:
    """arXiv 2601.05242: z-scores of each reward within its group, their weighted sum, and its z-score over the batch.
    TRL (``normalize_then_sum``) takes sample deviations and adds 1e-4 to each; no method of it holds this alone."""

    def z_scores(values: np.ndarray) -> np.ndarray:
        return (values - values.mean()) / (values.std(ddof=1) + 1e-4)

    scores = np.random.default_rng(0).integers(0, 3, (8, 2)).astype(float)
    weights = np.array([0.9, 0.1])
    groups = [np.stack([z_scores(column) for column in rows.T]).T @ weights for rows in (scores[:4], scores[4:])]
    expected = z_scores(np.concatenate(groups))

    group = torch.tensor([0] * 4 + [1] * 4)
    found = decoupled_advantages(torch.from_numpy(scores), torch.from_numpy(weights), group, eps=1e-4)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_a_wrong_normalisation_would_be_noticed() -> None:
    # Negative control: GRPO's mean over sequences is not DAPO's mean over tokens.
    batch = full_rows(0, 0.1)
    assert abs(ours("grpo", batch.logp, batch) - LossOnly(*THEIRS["dapo"]).loss(batch.logp, batch)) > 1e-3


def test_clip_metrics_equal_trl() -> None:
    batch = full_rows(1, 0.6)
    trainer = LossOnly(*THEIRS["dapo"])
    trainer.loss(batch.logp, batch)
    _, metrics = dapo_loss(
        batch.logp, batch.old_logp, batch.adv, batch.mask, clip_low=0.2, clip_high=0.28, denominator=batch.tokens
    )
    theirs = trainer._metrics["train"]
    assert metrics["clip/low_fraction"].item() == pytest.approx(theirs["clip_ratio/low_mean"][0])
    assert metrics["clip/high_fraction"].item() == pytest.approx(theirs["clip_ratio/high_mean"][0])


def test_missing_scores_leave_the_standard_deviation_as_in_trl() -> None:
    rewards = torch.tensor([[1.0, 0.0, float("nan"), 0.5], [0.2, 0.9, 0.1, 0.4]], dtype=torch.float64)
    std = trl_trainer.nanstd(rewards, dim=1)
    expected = torch.nan_to_num((rewards - rewards.nanmean(1, keepdim=True)) / (std[:, None] + 1e-4))
    group = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    torch.testing.assert_close(group_advantages(rewards.flatten(), group, eps=1e-4), expected.flatten())


def test_chunked_log_probabilities_equal_trl() -> None:
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(50, 16, generator=draw), torch.randn(301, 16, generator=draw)
    targets, slope = torch.randint(0, 301, (50,), generator=draw), torch.randn(50, generator=draw)
    results = []
    for compute in (
        lambda h, w: token_logprobs(h, w, targets, temperature=0.7, chunk=16, vocab_chunk=64),
        lambda h, w: ChunkedLogProbFunction.apply(h, w, None, targets, 0.7, 64, None, 1.0, ("entropy",))[:2],
    ):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        logp, entropy = compute(h, w)
        results.append((logp.detach(), entropy.detach(), *torch.autograd.grad((slope * logp).sum(), (h, w))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)
