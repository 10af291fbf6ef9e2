"""A packed row computes what its samples compute alone: no sample sees another, no gradient knows of the packing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from sailrl.algos.nll import nll_loss
from sailrl.config.losses import Dapo, Gspo, IcePop, MismatchConfig
from sailrl.data.batch import Batch, Sample, collate
from sailrl.errors import LearnerError
from sailrl.families.packing import PACKABLE
from sailrl.learner.attention import layout
from sailrl.learner.model import Policy
from sailrl.learner.moe import COUNTS
from sailrl.learner.objective import Objective, UpdateScope
from tests.fakes.tiny_learner import in_float64, make_learner, make_samples, make_scope, weights
from tests.unit.learner.test_vision import Bench

Loss = Callable[[torch.Tensor, Batch, UpdateScope], torch.Tensor]


def _surrogate(algorithm: Any) -> Loss:
    objective = Objective(algorithm, MismatchConfig(correction=IcePop()), max_response_tokens=12)
    return lambda logp, batch, scope: objective(logp, batch.engine_logp, batch, scope)[0]


LOSSES: dict[str, Loss] = {
    "dapo": _surrogate(Dapo()),
    "gspo": _surrogate(Gspo()),
    "nll": lambda logp, batch, scope: nll_loss(logp, batch.mask, denominator=scope.tokens)[0],
}


@pytest.fixture(scope="module")
def moe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sailrl.demo import tiny_text

    folder = tmp_path_factory.mktemp("moe") / "model"
    tiny_text.build(folder, hidden_size=32, layers=2, experts=4)
    return folder


@pytest.fixture(params=["text", "experts", "images"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Policy, list[Sample]]:
    """A policy and samples whose log-probabilities are near the engine's, so that no clip hides a gradient."""
    if request.param == "images":
        bench = Bench(request.getfixturevalue("vlm_folder"), tmp_path)
        pictures: list[tuple[int, ...]] = [(0, 1), (), (2, 2), (0, 1), (1,)]
        policy = bench.policy
        samples = [bench.sample(*some, seed=row, tokens=3 + row) for row, some in enumerate(pictures)]
    else:
        policy = Policy(str(request.getfixturevalue({"text": "tiny_folder", "experts": "moe_folder"}[request.param])))
        samples = make_samples(6)
    with torch.no_grad():
        near = [policy(collate([s]))[0][0].numpy() + 0.02 for s in samples]
    return policy, [replace(s, engine_logp=logp) for s, logp in zip(samples, near, strict=True)]


def _run(policy: Policy, parts: list[list[Sample]], loss: Loss) -> tuple[float, torch.Tensor, torch.Tensor | None]:
    """Loss, gradient and how often each expert was chosen, over one forward and backward per part."""
    scope = make_scope([s for part in parts for s in part])
    policy.zero_grad()
    total, counts = 0.0, []
    for part in parts:
        batch = collate(part)
        with policy.routers.watch() as routing:
            value = loss(policy(batch)[0], batch, scope)
        value.backward()
        total += value.item()
        counts += [routing.metrics()[COUNTS]] if routing.experts else []
    gradient = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    return total, gradient, torch.stack(counts).sum(0) if counts else None


@pytest.mark.parametrize("name", LOSSES)
def test_packed_equals_alone_in_loss_gradient_and_routing(case: tuple[Policy, list[Sample]], name: str) -> None:
    policy, samples = case
    precisions = {torch.float32: 1e-5, torch.float64: 1e-9}
    if policy.routers.names:  # torch multiplies by expert in no more than float32
        del precisions[torch.float64]
    for dtype, tolerance in precisions.items():
        if dtype == torch.float64:
            in_float64(policy)
        packed, gradient, experts = _run(policy, [samples], LOSSES[name])
        alone, expected, choices = _run(policy, [[s] for s in samples], LOSSES[name])
        assert expected.norm() > 1e-3
        assert packed == pytest.approx(alone, abs=tolerance)
        assert (gradient - expected).abs().max() < tolerance * max(1.0, float(expected.abs().max()))
        assert (experts is None) == (choices is None)
        if experts is not None and choices is not None:
            assert torch.equal(experts, choices)


def test_a_mask_that_leaks_gives_other_numbers(case: tuple[Policy, list[Sample]]) -> None:
    """The negative control: the same samples with one of them told to be part of the one before."""
    policy, samples = case
    batch = collate(samples[::2])  # no two with the same prompt
    first, second, *rest = batch.lengths

    def attention(lengths: tuple[int, ...]) -> dict[str, Any]:
        return layout(replace(batch, lengths=lengths))

    def hidden(lengths: tuple[int, ...]) -> torch.Tensor:
        positions = batch.positions()[None]
        inputs = {"input_ids": batch.input_ids[None], "position_ids": positions} | attention(lengths)
        return policy.model.base_model(**inputs).last_hidden_state[0]

    with torch.no_grad():
        apart, leaking = hidden(batch.lengths), hidden((first + second, *rest))
    moved = (apart - leaking).abs().amax(dim=1)
    assert moved[:first].max() < 1e-5
    assert moved[first : first + second].min() > 1e-3
    assert moved[first + second :].max() < 1e-5


TINY: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
EXPERTS: dict[str, Any] = {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def _policy(config: Any, folder: Path) -> Policy:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return Policy(str(folder))


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**TINY),
        Qwen2Config(**TINY),
        Qwen3Config(**TINY, head_dim=8),
        Qwen3MoeConfig(**TINY, **EXPERTS),
    ],
    ids=lambda config: config.model_type,
)
def test_every_packable_architecture_keeps_samples_apart(config: Any, tmp_path: Path) -> None:
    """Those with images are among the tests of vision."""
    policy, samples = _policy(config, tmp_path), make_samples(5)
    assert policy.packs
    assert policy.note is None
    assert policy.model.config.model_type in PACKABLE
    with torch.no_grad():
        packed = policy(collate(samples))[0]
        for row, sample in enumerate(samples):
            alone = policy(collate([sample]))[0][0]
            assert torch.allclose(packed[row, : len(alone)], alone, atol=1e-5)


# --- models that cannot be packed -----------------------------------------------------------------------------------

WINDOW = MistralConfig(**TINY, sliding_window=4)


def test_a_model_with_a_window_is_left_as_it_is_and_given_one_sample_at_a_time(tmp_path: Path) -> None:
    policy, samples = _policy(WINDOW, tmp_path), make_samples(4)
    assert not policy.packs
    assert policy.note is not None
    assert policy.note.startswith("this mistral model cannot be packed: the learner takes one response at a time")
    with torch.no_grad():
        for sample in samples:
            batch = collate([sample])
            logits = AutoModelForCausalLM.from_pretrained(tmp_path)(batch.input_ids[None]).logits[0]
            places = batch.predictors
            expected = logits.log_softmax(-1)[places, batch.response_ids[0]]
            assert torch.allclose(policy(batch)[0][0], expected, atol=1e-5)
    with pytest.raises(LearnerError, match="MistralForCausalLM was given 4 samples in one row"):
        policy(collate(samples))


def test_such_a_model_learns_the_same_whatever_the_budget(tmp_path: Path) -> None:
    _policy(WINDOW, tmp_path)
    outcomes = []
    for budget in (1, 10_000):
        learner = make_learner(tmp_path, max_tokens_per_microbatch=budget)
        learner.set_episode(make_samples(4))
        learner.compute_old_logprobs()
        learner.update(range(4), make_scope(make_samples(4)))
        outcomes.append(weights(learner))
    assert all(torch.equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])


def test_windows_in_some_layers_are_seen_too(tmp_path: Path) -> None:
    config = Qwen2Config(**TINY, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert "sliding_attention" in (config.layer_types or [])
    assert not _policy(config, tmp_path).packs
