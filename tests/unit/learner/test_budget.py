"""A search for a cause takes a number of passes that is known after the first."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from sailrl.demo import tiny_text
from sailrl.learner import stale
from sailrl.learner.budget import MOST_PASSES, Budget, BudgetSpent
from sailrl.learner.model import Policy
from tests.fakes.tiny_learner import make_learner, make_prompt

CPU = torch.device("cpu")
PROMPT = make_prompt(range(20, 60))


def test_passes_are_counted_and_end() -> None:
    budget = Budget(CPU, most=3)
    double = budget.counted(lambda number: 2 * number)
    assert [double(n) for n in range(3)] == [0, 2, 4]
    with pytest.raises(BudgetSpent):
        double(3)
    assert budget.used == 3


def test_a_slow_first_pass_leaves_as_many_as_fit_into_the_time() -> None:
    budget = Budget(CPU, seconds=0.5)
    budget.counted(time.sleep)(0.1)
    assert 1 <= budget.allowed <= 5
    assert Budget(CPU).allowed == MOST_PASSES


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deep") / "model"
    tiny_text.build(out, hidden_size=32, layers=30, tie_embeddings=True)
    return out


@pytest.mark.parametrize(
    "behind",
    [["model.layers.7.self_attn"], ["model.norm"], [f"model.layers.{layer}.self_attn" for layer in range(30)], []],
    ids=["a layer", "the last norm", "all attention", "nothing"],
)
def test_a_model_of_thirty_layers_is_searched_within_the_passes(deep: Path, behind: list[str]) -> None:
    """122 groups of parameters: one after the other, the most telling first, would be up to 7,500 passes."""
    policy, engine = Policy(str(deep)), Policy(str(deep))
    old = {name: value.clone() for name, value in policy.model.state_dict().items()}
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    new = policy.model.state_dict()
    engine.model.load_state_dict({n: old[n] if stale.parameter_group(n) in behind else v for n, v in new.items()})
    budget = Budget(policy.device, seconds=1e9)
    assert stale.explain(policy, PROMPT, engine.prompt_logprobs(PROMPT), old, budget) == behind
    assert budget.used <= MOST_PASSES


def test_a_search_that_is_cut_short_names_nothing_and_leaves_the_weights_alone(deep: Path, tmp_path: Path) -> None:
    learner = make_learner(deep)
    learner.export(tmp_path / "old")
    engine = learner.policy.prompt_logprobs(PROMPT)
    with torch.no_grad():
        learner.policy.model.model.layers[7].self_attn.q_proj.weight.mul_(3.0)
        learner.policy.model.model.layers[8].mlp.up_proj.weight.mul_(3.0)
        before = {name: value.clone() for name, value in learner.policy.model.state_dict().items()}
    old = Policy(str(tmp_path / "old")).model.state_dict()
    with pytest.raises(BudgetSpent):
        stale.explain(learner.policy, PROMPT, [value - 1.0 for value in engine], old, Budget(CPU, most=3))
    assert all(torch.equal(value, before[name]) for name, value in learner.policy.model.state_dict().items())
