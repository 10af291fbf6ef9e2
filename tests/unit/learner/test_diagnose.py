"""Every cause of a mismatch is named from numbers alone, and no cause is named for a healthy engine or for noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sailrl.data.batch import Sample, collate
from sailrl.learner import diagnose
from sailrl.learner.budget import Budget
from sailrl.learner.model import Policy
from tests.fakes.tiny_learner import make_prompt, make_samples

EXPERTS = 4


def budget(most: int = 500) -> Budget:
    return Budget(torch.device("cpu"), most=most)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Two layers of four experts, with weights ten times as large as usual: an untrained model says the same anyway."""
    from sailrl.demo import tiny_text

    folder = tmp_path_factory.mktemp("moe") / "model"
    tiny_text.build(folder, hidden_size=32, layers=2, experts=EXPERTS)
    policy = Policy(str(folder), temperature=0.8)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(10.0 if parameter.dim() >= 2 else 1.0)
    return policy


def said(policy: Policy, change: Callable[[Tensor], Tensor] = lambda logits: logits / 0.8) -> list[Sample]:
    """Samples with the log-probs of an engine that has these weights and changes its logits like this. Tokens are
    drawn from what it says, so that none is impossible."""
    samples = make_samples(8)
    batch = collate(samples)
    with torch.no_grad():
        # Responses of the same tokens throughout would not do: draw each token where the engine would be.
        logp = change(policy.response_logits(batch)).log_softmax(-1)
    return _with(samples, batch.targets, logp)


def _with(samples: Sequence[Sample], targets: Tensor, logp: Tensor) -> list[Sample]:
    values = iter(logp.gather(1, targets[:, None])[:, 0].tolist())
    return [replace(s, engine_logp=np.array([next(values) for _ in s.response_ids], dtype=np.float32)) for s in samples]


def last_tokens(policy: Policy, change: Callable[[Tensor], Tensor], *, likely: int = 2) -> list[Sample]:
    """Responses of one token, one of the most likely ones: a truncated engine can only have said such."""
    samples = [replace(s, response_ids=s.response_ids[:1], engine_logp=s.engine_logp[:1]) for s in make_samples(12)]
    with torch.no_grad():
        ranked = policy.response_logits(collate(samples)).argsort(descending=True)
    chosen = [int(ranked[i, i % likely]) for i in range(len(samples))]
    samples = [replace(s, response_ids=np.array([t], np.int32)) for s, t in zip(samples, chosen, strict=True)]
    batch = collate(samples)
    with torch.no_grad():
        logp = change(policy.response_logits(batch)).log_softmax(-1)
    return _with(samples, batch.targets, logp)


# --- sampling ------------------------------------------------------------------------------------------------------


def test_a_healthy_engine_has_no_cause(policy: Policy) -> None:
    samples = said(policy)
    assert diagnose.explain_sampling(policy, samples) is None
    assert diagnose.explain_prompt(policy, samples, [s.prompt_ids.tolist() for s in samples], budget()) is None


def test_noise_has_no_cause(policy: Policy) -> None:
    draw = np.random.default_rng(0)
    noisy = [
        replace(s, engine_logp=(s.engine_logp + draw.normal(0, 0.3, len(s.engine_logp))).astype(np.float32))
        for s in said(policy)
    ]
    assert diagnose.explain_sampling(policy, noisy) is None
    assert diagnose.explain_prompt(policy, noisy, [s.prompt_ids.tolist() for s in noisy], budget()) is None


@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.37])
def test_a_temperature_on_one_side_only_is_named(policy: Policy, temperature: float) -> None:
    found = diagnose.explain_sampling(policy, said(policy, lambda logits: logits / temperature))
    assert found is not None
    assert f"those of temperature {temperature:g}, the learner applies 0.8" in found


@pytest.mark.parametrize("p", [0.9, 0.55])
def test_a_nucleus_is_named(policy: Policy, p: float) -> None:
    samples = last_tokens(policy, lambda logits: diagnose._top_p(logits / 0.8, p), likely=1)
    found = diagnose.explain_sampling(policy, samples)
    assert found is not None
    assert found.startswith("top-p is on")


def test_a_top_k_is_named(policy: Policy) -> None:
    samples = last_tokens(policy, lambda logits: diagnose._top_k(logits / 0.8, 2))
    assert diagnose.explain_sampling(policy, samples) == (
        "the engine samples among the top 2 tokens (top_k), the learner among all"
    )


# --- the prompt ----------------------------------------------------------------------------------------------------


def _answering(policy: Policy, prompts: Callable[[Sample], np.ndarray]) -> list[Sample]:
    """Samples whose engine read other prompts than the learner trains on."""
    samples = make_samples(8)
    read = [replace(s, prompt_ids=prompts(s)) for s in samples]
    batch = collate(read)
    with torch.no_grad():
        logp, _ = policy(batch)
    return [
        replace(s, engine_logp=logp[b, : len(s.response_ids)].numpy().astype(np.float32)) for b, s in enumerate(samples)
    ]


def test_other_prompt_ids_are_named(policy: Policy) -> None:
    samples = _answering(policy, lambda s: s.prompt_ids[::-1].copy())
    engine = [s.prompt_ids[::-1].tolist() for s in samples]
    found = diagnose.explain_prompt(policy, samples, engine, budget())
    assert found is not None
    assert found.startswith("template differs: the engine was given other prompt ids")
    assert diagnose.explain_sampling(policy, samples) is None


@pytest.mark.parametrize(("part", "words"), [(slice(2, None), "first 2"), (slice(None, -1), "last 1")])
def test_a_prompt_that_lost_an_end_is_named(policy: Policy, part: slice, words: str) -> None:
    samples = _answering(policy, lambda s: s.prompt_ids[part])
    found = diagnose.explain_prompt(policy, samples, [s.prompt_ids.tolist() for s in samples], budget())
    assert found is not None
    assert f"without the {words} tokens" in found


def test_prompts_with_images_are_left_out(policy: Policy) -> None:
    samples = [replace(s, images=("abc",)) for s in said(policy)]
    assert diagnose.explain_prompt(policy, samples, [[1]] * len(samples), budget()) is None


# --- weights -------------------------------------------------------------------------------------------------------


PROMPT = make_prompt(range(20, 60))


def _permuted(policy: Policy, orders: dict[int, list[int]]) -> list[float]:
    """What an engine says whose experts really are in another order, in memory."""
    state = {name: value.clone() for name, value in policy.model.state_dict().items()}
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            for layer, order in orders.items():
                if f"layers.{layer}.mlp.experts." in name:
                    parameter.copy_(parameter[order].clone())
    theirs = policy.prompt_logprobs(PROMPT)
    policy.model.load_state_dict(state)
    return theirs


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        ({1: [0, 2, 1, 3]}, ["experts permuted in model.layers.1.mlp (order [0, 2, 1, 3])"]),
        ({0: [3, 2, 1, 0]}, ["experts in reverse in model.layers.0.mlp"]),
        (
            {0: [3, 0, 1, 2], 1: [3, 0, 1, 2]},
            ["experts shifted by one in model.layers.0.mlp", "experts shifted by one in model.layers.1.mlp"],
        ),
    ],
)
def test_permuted_experts_are_named_by_layer(policy: Policy, orders: dict[int, list[int]], words: list[str]) -> None:
    theirs = _permuted(policy, orders)
    mine = policy.prompt_logprobs(PROMPT)
    assert max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) > 1e-3
    assert diagnose.explain_experts(policy, PROMPT, theirs, budget()) == words


def test_no_order_of_experts_is_named_for_other_faults(policy: Policy, tiny_folder: Path) -> None:
    theirs = [value - 0.3 * (i % 3) for i, value in enumerate(policy.prompt_logprobs(PROMPT))]
    assert diagnose.explain_experts(policy, PROMPT, theirs, budget()) == []
    dense = Policy(str(tiny_folder))
    assert diagnose.explain_experts(dense, PROMPT, theirs, budget()) == []


def test_weights_are_compared_group_by_group(policy: Policy) -> None:
    mine = policy.model.state_dict()
    theirs = {name: value.clone() for name, value in mine.items()}
    assert diagnose.compare_weights(mine, theirs) == []
    theirs["model.layers.0.self_attn.q_proj.weight"] += 1.0
    theirs["model.layers.1.mlp.experts.down_proj"] = theirs["model.layers.1.mlp.experts.down_proj"][[1, 0, 2, 3]]
    del theirs["model.norm.weight"]
    assert diagnose.compare_weights(mine, theirs) == [
        "model.layers.0.self_attn differs",
        "experts permuted in model.layers.1.mlp (order [1, 0, 2, 3])",
        "model.norm is missing or has another shape",
    ]
