"""Which parameters an engine did not receive: exactly those groups are named whose old values it still has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from sailrl.demo import tiny_text
from sailrl.errors import ConfigError
from sailrl.learner import stale as search
from sailrl.learner.budget import Budget
from sailrl.learner.model import Policy
from sailrl.learner.stale import parameter_group
from sailrl.types import Prompt
from tests.fakes.tiny_learner import make_learner, make_prompt


def explain(policy: Policy, prompt: Prompt, engine: Sequence[float], old: dict[str, torch.Tensor]) -> list[str]:
    return search.explain(policy, prompt, engine, old, Budget(policy.device))


PROMPT = make_prompt([10, 20, 30, 40, 50, 60, 70, 80])


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stale")
    tiny_text.build(out, hidden_size=32, layers=2, tie_embeddings=request.param)
    return out


def _policies(folder: Path) -> tuple[Policy, dict[str, torch.Tensor]]:
    """The learner after an update of every parameter, and the state before it."""
    policy = Policy(str(folder))
    old = {name: value.clone() for name, value in policy.model.state_dict().items()}
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return policy, old


def _engine(folder: Path, policy: Policy, old: dict[str, torch.Tensor], stale: Sequence[str]) -> list[float]:
    """What an engine says that has the new weights, but of the groups in ``stale`` the old ones."""
    engine = Policy(str(folder))
    state = policy.model.state_dict()
    engine.model.load_state_dict({n: old[n] if parameter_group(n) in stale else v for n, v in state.items()})
    return engine.prompt_logprobs(PROMPT)


@pytest.mark.parametrize(
    "stale",
    [
        ["model.layers.0.self_attn"],
        ["model.layers.1.mlp"],
        ["model.layers.1.input_layernorm"],
        ["model.norm"],
        ["model.layers.0.mlp", "model.layers.1.self_attn"],
    ],
    ids="+".join,
)
def test_exactly_the_stale_groups_are_named(folder: Path, stale: list[str]) -> None:
    policy, old = _policies(folder)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    assert sorted(explain(policy, PROMPT, _engine(folder, policy, old, stale), old)) == stale
    after = policy.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)  # looking for it changed nothing


def test_a_stale_output_layer_is_named_tied_to_the_embeddings_or_not(folder: Path) -> None:
    policy, old = _policies(folder)
    head = old.get("lm_head.weight", old["model.embed_tokens.weight"])
    assert explain(policy, PROMPT, policy.prompt_logprobs(PROMPT, head=head), old) == ["lm_head"]


def test_all_groups_are_named_when_nothing_arrived(folder: Path) -> None:
    policy, old = _policies(folder)
    groups = {parameter_group(name) for name in policy.model.state_dict()}
    named = explain(policy, PROMPT, _engine(folder, policy, old, sorted(groups)), old)
    assert len(named) > 1  # no single group explains nine tenths
    assert set(named) <= groups | {"lm_head"}


def test_permuted_weights_are_not_blamed_on_staleness(folder: Path) -> None:
    policy, old = _policies(folder)
    broken = Policy(str(folder))
    broken.model.load_state_dict(policy.model.state_dict())
    with torch.no_grad():
        weight = broken.model.model.layers[0].mlp.down_proj.weight
        weight.copy_(weight[torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))])
    assert explain(policy, PROMPT, broken.prompt_logprobs(PROMPT), old) == []


def test_groups_that_did_not_change_are_never_named(folder: Path) -> None:
    policy = Policy(str(folder))
    old = {name: value.clone() for name, value in policy.model.state_dict().items()}
    with torch.no_grad():
        policy.model.model.norm.weight.mul_(1.5)
    assert explain(policy, PROMPT, _engine(folder, policy, old, ["model.norm"]), old) == ["model.norm"]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.layers.3.self_attn.q_proj.weight", "model.layers.3.self_attn"),
        ("model.layers.11.mlp.experts.gate_up_proj", "model.layers.11.mlp"),
        ("model.visual.blocks.2.attn.qkv.bias", "model.visual.blocks.2.attn"),
        ("model.language_model.layers.0.input_layernorm.weight", "model.language_model.layers.0.input_layernorm"),
        ("model.embed_tokens.weight", "model.embed_tokens"),
        ("lm_head.weight", "lm_head"),
    ],
)
def test_parameters_are_grouped_by_their_block(name: str, group: str) -> None:
    assert parameter_group(name) == group


OWN_CODE = """
from transformers import Qwen3Config, Qwen3ForCausalLM

class OwnConfig(Qwen3Config):
    model_type = "own"

class OwnModel(Qwen3ForCausalLM):
    config_class = OwnConfig
"""


def test_a_model_with_code_of_its_own_is_loaded_with_it_to_be_explained(tmp_path: Path) -> None:
    tiny_text.build(tmp_path, hidden_size=32, layers=1)
    (tmp_path / "own.py").write_text(OWN_CODE)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="trust_remote_code"):
        make_learner(tmp_path)
    learner = make_learner(tmp_path, trust_remote_code=True)
    engine = learner.policy.prompt_logprobs(PROMPT)
    same = learner.explain_weights(PROMPT, engine, str(tmp_path), str(tmp_path))
    assert (same.causes, same.same_bytes, same.complete) == ((), True, True)
    with torch.no_grad():
        learner.policy.model.model.norm.weight.mul_(1.5)
    found = learner.explain_weights(PROMPT, engine, None, str(tmp_path))
    assert found.causes == ("model.norm is still the previous version",)
