"""The objective: every algorithm gets its own loss, denominator and correction; sick numbers stop before a step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sailrl.config import losses
from sailrl.config.losses import MismatchConfig
from sailrl.data.batch import Batch, Sample, collate
from sailrl.errors import MismatchError
from sailrl.learner.objective import HISTOGRAM, Objective, UpdateScope, summary, with_advantage

L_MAX = 10
LENGTHS = (3, 1)
SCOPE = UpdateScope(tokens=sum(LENGTHS), sequences=2, clip_low=0.2, clip_high=0.28)


def make_batch(
    advantages: tuple[float, float] = (1.0, -2.0), engine: float = 0.0, images: tuple[int, ...] = ()
) -> Batch:
    """Two responses of 3 and 1 tokens; the engine's log-probs are all ``engine``; rows in ``images`` have one."""
    return collate(
        [
            Sample(
                prompt_ids=np.zeros(2, np.int32),
                response_ids=np.zeros(length, np.int32),
                engine_logp=np.full(length, engine, np.float32),
                advantage=advantages[row],
                images=("hash",) if row in images else (),
            )
            for row, length in enumerate(LENGTHS)
        ]
    )


def objective(algorithm: Any, correction: Any = None, **mismatch: Any) -> Objective:
    config = MismatchConfig(correction=correction or losses.NoCorrection(), **mismatch)
    return Objective(algorithm, config, max_response_tokens=L_MAX)


def gradient(one: Objective, batch: Batch, scope: UpdateScope = SCOPE, old: float = 0.0) -> list[list[float]]:
    """d loss / d logp at a ratio of 1."""
    logp = torch.full((2, 3), old, requires_grad=True)
    loss, _ = one(logp, torch.full((2, 3), old), batch, scope)
    loss.backward()
    assert logp.grad is not None
    return logp.grad.tolist()


# At a ratio of 1 the gradient of a token is -A over what its algorithm divides by. Row 0 has A = 1 and 3 tokens, row 1
# has A = -2 and 1 token; there are 4 tokens and 2 sequences in the update.
PER_TOKEN = [[-1 / 4] * 3, [2 / 4, 0, 0]]
PER_SEQUENCE = [[-1 / (2 * 3)] * 3, [2 / (2 * 1), 0, 0]]
PER_CONSTANT = [[-1 / (2 * L_MAX)] * 3, [2 / (2 * L_MAX), 0, 0]]


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (losses.Dapo(), PER_TOKEN),
        (losses.Cispo(), PER_TOKEN),
        (losses.Gspo(), PER_SEQUENCE),
        (losses.GspoToken(), PER_SEQUENCE),
        (losses.Grpo(), PER_SEQUENCE),
        (losses.Sapo(), PER_SEQUENCE),
        (losses.DrGrpo(), PER_CONSTANT),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_algorithm_divides_by_its_own_count(algorithm: Any, expected: list[list[float]]) -> None:
    assert [pytest.approx(row) for row in expected] == gradient(objective(algorithm), make_batch())


def test_the_clip_of_the_scope_reaches_every_clipped_loss() -> None:
    """All ratios are 1.1: outside of +-0.05, inside of +-0.2. Row 0 (A > 0) loses its gradient only when clipped."""
    narrow = replace(SCOPE, clip_low=0.05, clip_high=0.05)
    for algorithm in (losses.Dapo(), losses.Gspo(), losses.GspoToken(), losses.Grpo(), losses.DrGrpo()):
        for scope, lost in ((SCOPE, False), (narrow, True)):
            logp = torch.full((2, 3), math.log(1.1), requires_grad=True)
            loss, metrics = objective(algorithm)(logp, torch.zeros(2, 3), make_batch(), scope)
            loss.backward()
            assert logp.grad is not None
            assert bool((logp.grad[0] == 0).all()) == lost
            assert (float(metrics["clip/high_fraction"]) > 0) == lost


def test_dual_clip_is_handed_on() -> None:
    # Ratio 8, A = -2: the loss of row 1 is 16 / 4 without and at most 3 x 2 / 4 with dual clip 3.
    logp = torch.full((2, 3), math.log(8.0))
    batch = make_batch(advantages=(0.0, -2.0))
    plain, _ = objective(losses.Dapo())(logp, torch.zeros(2, 3), batch, SCOPE)
    dual, _ = objective(losses.Dapo(dual_clip=3.0))(logp, torch.zeros(2, 3), batch, SCOPE)
    assert (float(plain), float(dual)) == (pytest.approx(4.0), pytest.approx(1.5))


# --- corrections ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correction", "engine", "weight"),
    [
        (losses.NoCorrection(), -math.log(4.0), 1.0),
        (losses.TokenTis(), -math.log(4.0), 2.0),  # k = 4, capped at 2
        (losses.TokenTis(cap=3.0), -math.log(4.0), 3.0),
        (losses.IcePop(), -math.log(4.0), 4.0),  # inside 0.5 to 5
        (losses.IcePop(), -math.log(6.0), 0.0),
        (losses.IcePop(low=0.9), math.log(2.0), 0.0),  # k = 0.5
        (losses.GeometricMask(), -math.log(4.0), 0.0),
        (losses.GeometricMask(), -math.log(1.005), 1.0),
    ],
    ids=lambda value: getattr(value, "kind", str(value)),
)
def test_a_correction_weighs_every_token(correction: Any, engine: float, weight: float) -> None:
    got = gradient(objective(losses.Dapo(), correction), make_batch(engine=engine))
    assert got == [pytest.approx([weight * g for g in row], abs=1e-6) for row in PER_TOKEN]


def test_a_sequence_mask_looks_at_the_product() -> None:
    # k = 1.5 on every token: 1.5^3 = 3.4 is above 3, 1.5 is not.
    got = gradient(objective(losses.Dapo(), losses.SequenceMask()), make_batch(engine=-math.log(1.5)))
    assert got == [[0.0] * 3, pytest.approx(PER_TOKEN[1])]


def test_a_veto_drops_responses_with_and_without_another_correction() -> None:
    batch = make_batch()
    batch.engine_logp[0, 1] = 12.0  # k = e^-12 = 6e-6, in row 0 only
    for correction in (losses.NoCorrection(), losses.TokenTis()):
        kept = gradient(objective(losses.Dapo(), correction, veto_below=1e-4), batch)
        assert kept == [[0.0] * 3, pytest.approx(PER_TOKEN[1])]
    assert gradient(objective(losses.Dapo()), batch)[0] == pytest.approx(PER_TOKEN[0])  # without a veto


# --- measuring -----------------------------------------------------------------------------------------------------


def measured(batch: Batch, scope: UpdateScope = SCOPE) -> dict[str, float]:
    _, metrics = objective(losses.Dapo())(torch.zeros(2, 3), torch.zeros(2, 3), batch, scope)
    return summary(metrics)


def test_the_mismatch_is_measured_whatever_the_correction() -> None:
    batch = make_batch(engine=-0.5)
    metrics = measured(batch)
    # k = e^0.5 = 1.6487 everywhere: k3 = k - 1 - 0.5, and equal weights are all effective.
    assert metrics["mismatch/k3"] == pytest.approx(math.exp(0.5) - 1.5, rel=1e-5)
    assert metrics["mismatch/max_abs_dlogp"] == pytest.approx(0.5)
    assert metrics["mismatch/ess"] == pytest.approx(1.0)
    assert metrics["mismatch/p50_abs_dlogp"] == pytest.approx(0.5, rel=0.05)
    assert HISTOGRAM not in metrics


def test_percentiles_and_effective_size_tell_one_bad_token_from_many() -> None:
    batch = make_batch()
    batch.engine_logp[0, 0] = -3.0  # k = 20.1, 1, 1, 1: (23.1)^2 / (4 x 406.4)
    metrics = measured(batch)
    k = math.exp(3.0)
    assert metrics["mismatch/ess"] == pytest.approx((k + 3) ** 2 / (4 * (k * k + 3)), rel=1e-4)
    assert metrics["mismatch/p50_abs_dlogp"] < 1e-6
    assert metrics["mismatch/p99_abs_dlogp"] == pytest.approx(3.0, rel=0.05)


def test_prompts_with_images_are_measured_apart() -> None:
    batch = make_batch(images=(1,))
    batch.engine_logp[1, 0] = -1.0
    metrics = measured(batch, replace(SCOPE, image_tokens=1))
    assert metrics["mismatch/images/k3"] == pytest.approx(math.e - 2, rel=1e-5)
    assert metrics["mismatch/k3"] == pytest.approx((math.e - 2) / 4, rel=1e-5)
    assert metrics["mismatch/images/max_abs_dlogp"] == pytest.approx(1.0)
    assert not any(name.startswith("mismatch/images/") for name in measured(make_batch()))


# --- thresholds ----------------------------------------------------------------------------------------------------


def test_a_threshold_is_a_stop_with_both_numbers() -> None:
    metrics = {"mismatch/max_abs_dlogp": 0.3, "mismatch/k3": 0.01, "mismatch/mean_abs_dlogp": 0.2}
    objective(losses.Dapo()).check(metrics)
    objective(losses.Dapo(), max_abs_dlogp=0.5, max_k3=0.02).check(metrics)
    with pytest.raises(MismatchError, match=r"max_abs_dlogp is 0.3 nats and mismatch.max_abs_dlogp is 0.1"):
        objective(losses.Dapo(), max_abs_dlogp=0.1).check(metrics)
    with pytest.raises(MismatchError, match=r"k3 is 0.01 nats and mismatch.max_k3 is 0.005"):
        objective(losses.Dapo(), max_k3=0.005).check(metrics)


def test_what_is_not_a_number_is_past_every_threshold() -> None:
    metrics = {"mismatch/max_abs_dlogp": math.nan, "mismatch/k3": 0.0, "mismatch/mean_abs_dlogp": 0.0}
    with pytest.raises(MismatchError):
        objective(losses.Dapo(), max_abs_dlogp=1e9).check(metrics)


def test_the_first_update_has_a_limit_of_its_own_that_later_ones_do_not_have() -> None:
    one = Objective(losses.Dapo(), MismatchConfig(), max_response_tokens=L_MAX)
    one.first_mean_dlogp = 1e-3
    sick = {"mismatch/max_abs_dlogp": 0.1, "mismatch/k3": 1e-3, "mismatch/mean_abs_dlogp": 1e-2}
    for _ in range(2):  # a refused update leaves the limit in force
        with pytest.raises(MismatchError, match=r"mean_abs_dlogp is 0.01 nats and the first update's limit"):
            one.check(sick)
    one.check(sick | {"mismatch/mean_abs_dlogp": 1e-4})
    one.check(sick)


# --- rows without an advantage -------------------------------------------------------------------------------------

EVERY = [
    losses.Dapo(),
    losses.Gspo(),
    losses.GspoToken(),
    losses.Grpo(),
    losses.DrGrpo(),
    losses.Cispo(),
    losses.Sapo(),
]


def samples_with(*advantages: float) -> list[Sample]:
    """Responses of 1, 2, 3 ... tokens."""
    return [
        Sample(np.zeros(2, np.int32), np.zeros(n, np.int32), np.zeros(n, np.float32), advantage)
        for n, advantage in enumerate(advantages, start=1)
    ]


def slopes(one: Objective, samples: list[Sample], scope: UpdateScope) -> list[list[float]]:
    """d loss / d logp of each sample's tokens, away from a ratio of 1."""
    batch = collate(samples)
    logp = torch.full(batch.mask.shape, -0.9, requires_grad=True)
    loss, _ = one(logp, torch.full(batch.mask.shape, -1.0), batch, scope)
    loss.backward()
    assert logp.grad is not None
    return [row[: len(s.response_ids)] for row, s in zip(logp.grad.tolist(), samples, strict=True)]


@pytest.mark.parametrize("algorithm", EVERY, ids=lambda one: one.name)
def test_a_row_without_an_advantage_changes_nothing_and_need_not_be_computed(algorithm: Any) -> None:
    samples = samples_with(1.0, 0.0, -0.5, 0.0)
    every, kept = range(4), with_advantage(samples, range(4))
    assert kept == [0, 2]
    whole = UpdateScope.of(samples, every, every, clip_low=0.2, clip_high=0.28)
    part = UpdateScope.of(samples, kept, every, clip_low=0.2, clip_high=0.28)
    assert (part.tokens, part.token_share, part.sequence_share) == (4, 4 / 10, 2 / 4)  # 1 + 3 of 1 + 2 + 3 + 4 tokens
    first, second, third, fourth = slopes(objective(algorithm), samples, whole)
    assert set(second + fourth) == {0.0}
    assert slopes(objective(algorithm), [samples[0], samples[2]], part) == [pytest.approx(first), pytest.approx(third)]
    # The negative control: a mean over the rows that are left makes each of them heavier.
    alone = UpdateScope.of(samples, kept, kept, clip_low=0.2, clip_high=0.28)
    assert slopes(objective(algorithm), [samples[0], samples[2]], alone)[0] != pytest.approx(first)


def test_an_update_in_which_no_row_has_an_advantage_keeps_one_for_its_metrics() -> None:
    assert with_advantage(samples_with(0.0, 0.0, 0.0), [2, 1]) == [2]
