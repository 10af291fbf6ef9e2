"""What rounding does to a model is measured by computing the same with other last bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from sailrl.demo import tiny_text
from sailrl.learner.model import DTYPES, Policy
from sailrl.learner.objective import Objective
from sailrl.learner.rounding import other_last_bits
from sailrl.sync.probe import Difference
from tests.fakes.tiny_learner import make_learner, make_prompt

PROMPT = make_prompt(range(20, 84))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four layers with larger weights than an untrained model has, which says nearly the same of everything."""
    out = tmp_path_factory.mktemp("rounding") / "model"
    tiny_text.build(out, hidden_size=64, layers=4)
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.dim() >= 2 else 1.0)
    model.save_pretrained(out)
    return out


def rounding(policy: Policy) -> Difference:
    plain = policy.prompt_logprobs(PROMPT)
    with other_last_bits(policy):
        return Difference.of([plain], [policy.prompt_logprobs(PROMPT)])


def test_other_last_bits_change_little_are_alike_every_time_and_leave_nothing_behind(folder: Path) -> None:
    policy = Policy(str(folder))
    before = policy.prompt_logprobs(PROMPT)
    first = rounding(policy)
    assert 0 < first.max < 1e-4
    assert rounding(policy) == first
    assert policy.prompt_logprobs(PROMPT) == before


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_is_of_the_size_of_what_half_precision_does_to_the_model(folder: Path, dtype: str) -> None:
    """Autocast, as the learner computes, against a model whose weights and residual stream are in half precision."""
    policy = Policy(str(folder), dtype=dtype)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype])
    ids = torch.tensor([PROMPT.token_ids])
    with torch.no_grad():
        logp = plain(ids).logits[0, :-1].float().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    real, measured = Difference.of([policy.prompt_logprobs(PROMPT)], [logp.tolist()]), rounding(policy)
    assert measured.mean / 4 < real.mean < 4 * measured.mean
    assert real.p99 < 4 * measured.p99


def test_half_precision_rounds_in_the_order_of_its_bits(folder: Path) -> None:
    # One bit is 2^-7 in bfloat16, 2^-10 in float16 and 2^-23 in float32.
    bfloat16, float16, float32 = (
        rounding(Policy(str(folder), dtype=d)).mean for d in ("bfloat16", "float16", "float32")
    )
    assert bfloat16 > 3 * float16 > 1000 * float32


def test_a_residual_stream_in_half_precision_already_flips_its_last_bits(folder: Path) -> None:
    """As under sharding, where every layer gets and gives half precision: half a bit would round back to the same."""
    policy = Policy(str(folder), dtype="bfloat16")
    hook = policy.model.get_input_embeddings().register_forward_hook(lambda module, args, out: out.bfloat16())
    assert rounding(policy).mean > 1e-3
    hook.remove()


def test_a_learner_gives_both_ways(folder: Path) -> None:
    learner = make_learner(folder)
    (plain,), (rounded,) = learner.prompt_logprobs([PROMPT]), learner.prompt_logprobs([PROMPT], rounded=True)
    assert plain == learner.policy.prompt_logprobs(PROMPT)
    assert plain != rounded


def test_the_limit_of_the_first_update_grows_as_the_temperature_falls(folder: Path) -> None:
    # At temperature 0.5 logits, and their differences, are twice as large.
    for temperature, limit in ((1.0, 0.01), (0.5, 0.02), (2.0, 0.01)):
        learner = make_learner(folder, temperature=temperature)
        learner.limit_first_update(0.01)
        assert isinstance(learner._objective, Objective)
        assert learner._objective.first_mean_dlogp == pytest.approx(limit)
