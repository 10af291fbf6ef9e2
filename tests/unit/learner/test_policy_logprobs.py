"""The policy's log-probabilities are those of the whole model, computed the long way by transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from sailrl.data.batch import collate
from sailrl.learner.model import Policy
from tests.fakes.tiny_learner import make_prompt, make_samples

BANNED = (5, 6)


def _by_transformers(folder: Path, ids: np.ndarray, temperature: float, banned: tuple[int, ...]) -> torch.Tensor:
    """[S, V] log-probabilities of one unpadded sequence."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(ids).long()[None]).logits[0]
    logits[:, list(banned)] -= 1.0e4
    return (logits / temperature).log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_and_entropy_agree_with_the_full_softmax(tiny_folder: Path, temperature: float) -> None:
    samples = make_samples(5)
    policy = Policy(str(tiny_folder), temperature=temperature, banned_ids=BANNED)
    logp, entropy = policy(collate(samples))
    for row, sample in enumerate(samples):
        ids = np.concatenate([sample.prompt_ids, sample.response_ids])
        full = _by_transformers(tiny_folder, ids, temperature, BANNED)
        before = len(sample.prompt_ids) - 1  # the position that predicts the first response token
        full = full[before : before + len(sample.response_ids)]
        expected = full.gather(1, torch.from_numpy(sample.response_ids).long()[:, None])[:, 0]
        got = logp[row, : len(expected)]
        allowed = expected > -1e3  # a banned target is about -1e4 on both sides, where 1e-5 means nothing
        assert torch.allclose(got[allowed], expected[allowed], atol=1e-5)
        assert torch.allclose(entropy[row, : len(expected)], -(full.exp() * full).sum(-1), atol=1e-5)
        assert (logp[row, len(expected) :] == 0).all()


def test_without_the_temperature_the_numbers_are_others(tiny_folder: Path) -> None:
    batch = collate(make_samples(5))
    warm, cold = Policy(str(tiny_folder))(batch)[0], Policy(str(tiny_folder), temperature=0.7)(batch)[0]
    assert (warm - cold).abs().max() > 0.05


def test_banned_ids_have_no_probability(tiny_folder: Path) -> None:
    samples = make_samples(3)
    samples[0].response_ids[:] = BANNED[0]
    policy = Policy(str(tiny_folder), banned_ids=BANNED)
    logp, _ = policy(collate(samples))
    assert (logp[0][: len(samples[0].response_ids)].exp() == 0).all()


def test_prompt_logprobs_know_neither_temperature_nor_bans(tiny_folder: Path) -> None:
    ids = np.array([10, 5, 40, 41, 42])  # 5 is banned for responses, but prompts hold image placeholders
    policy = Policy(str(tiny_folder), temperature=0.7, banned_ids=BANNED)
    full = _by_transformers(tiny_folder, ids, 1.0, ())
    expected = full[:-1].gather(1, torch.from_numpy(ids[1:])[:, None])[:, 0].tolist()
    assert policy.prompt_logprobs(make_prompt(ids.tolist())) == pytest.approx(expected, abs=1e-5)


def test_bfloat16_computes_roughly_the_same_and_keeps_float32_weights(tiny_folder: Path) -> None:
    batch = collate(make_samples(5))
    exact, rough = Policy(str(tiny_folder))(batch)[0], Policy(str(tiny_folder), dtype="bfloat16")
    assert {p.dtype for p in rough.parameters()} == {torch.float32}
    difference = (rough(batch)[0] - exact).abs().max()
    assert 0 < difference < 0.1


def test_activation_checkpointing_changes_no_number(tiny_folder: Path) -> None:
    batch = collate(make_samples(5))
    gradients = []
    for checkpointing in (False, True):
        policy = Policy(str(tiny_folder), activation_checkpointing=checkpointing)
        policy(batch)[0].sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]))
    assert torch.equal(*gradients)
