"""Packed rows on a GPU: in half precision they go through torch's variable-length kernel, which no CPU test runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sailrl.data.batch import Batch, Sample, collate
from sailrl.learner.model import Policy
from tests.fakes.tiny_learner import make_samples

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sailrl.demo import tiny_text

    made = tmp_path_factory.mktemp("gpu") / "model"
    tiny_text.build(made, hidden_size=64, layers=2)  # two heads of 32 that share one key
    return made


def _batch(samples: list[Sample]) -> Batch:
    return collate(samples).to(torch.device("cuda"))


def _gradient(policy: Policy, parts: list[list[Sample]]) -> torch.Tensor:
    policy.zero_grad()
    for part in parts:
        policy(_batch(part))[0].sum().backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_packed_equals_alone(folder: Path, dtype: str, tolerance: float) -> None:
    policy, samples = Policy(str(folder), dtype=dtype).cuda(), make_samples(6)
    with torch.no_grad():
        packed = policy(_batch(samples))[0]
        for row, sample in enumerate(samples):
            alone = policy(_batch([sample]))[0][0]
            assert (packed[row, : len(alone)] - alone).abs().max() < tolerance
    together, apart = _gradient(policy, [samples]), _gradient(policy, [[s] for s in samples])
    assert (together - apart).norm() < tolerance * apart.norm()


def test_a_response_of_one_token_behind_a_shared_prompt_asks_nothing_of_the_kernel(folder: Path) -> None:
    """It is predicted by the prompt's last token: a sequence of keys without a question."""
    first, second, *_ = make_samples(2)
    one = replace(second, response_ids=second.response_ids[:1], engine_logp=second.engine_logp[:1])
    policy, samples = Policy(str(folder), dtype="bfloat16").cuda(), [first, one]
    assert _batch(samples).row_lengths()[1] == 0
    together, apart = _gradient(policy, [samples]), _gradient(policy, [[s] for s in samples])
    assert (together - apart).norm() < 0.05 * apart.norm()


def test_half_precision_computes_roughly_what_the_cpu_computes(folder: Path) -> None:
    samples = make_samples(6)
    exact, rough = Policy(str(folder)), Policy(str(folder), dtype="bfloat16").cuda()
    with torch.no_grad():
        difference = (rough(_batch(samples))[0].cpu() - exact(collate(samples))[0]).abs().max()
    assert 0 < difference < 0.1
