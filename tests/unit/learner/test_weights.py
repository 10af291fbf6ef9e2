"""What an engine is sent is what a checkpoint would hold: the same names, shapes and bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sailrl.demo import tiny_text, tiny_vlm
from sailrl.errors import LearnerError
from sailrl.learner.model import Policy
from sailrl.learner.weights import CheckpointWeights

BUILDS: dict[str, Callable[[Path], None]] = {
    "dense": lambda folder: tiny_text.build(folder, hidden_size=32, layers=2),
    "tied": lambda folder: tiny_text.build(folder, hidden_size=32, layers=2, tie_embeddings=True),
    "experts": lambda folder: tiny_text.build(folder, hidden_size=32, layers=11, experts=4),
    "vision": lambda folder: tiny_vlm.build(folder, hidden_size=32),
    "vision and experts": lambda folder: tiny_vlm.build(folder, hidden_size=32, experts=4),
}


@pytest.fixture(scope="module", params=BUILDS)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp("weights")
    BUILDS[request.param](folder)
    return Policy(str(folder))


def _saved(policy: Policy, folder: Path) -> dict[str, torch.Tensor]:
    policy.save(folder)
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def test_names_and_bits_are_those_of_a_saved_checkpoint(policy: Policy, tmp_path: Path) -> None:
    saved = _saved(policy, tmp_path)
    sent = dict(CheckpointWeights(policy.model, torch.float32))
    assert sent.keys() == saved.keys()
    assert all(torch.equal(sent[name], saved[name]) for name in saved)


def test_experts_beside_a_vision_tower_lie_as_they_are_published(tmp_path: Path) -> None:
    """Qwen3-VL-MoE on the hub: [experts, hidden, 2 x 48] and [experts, 48, hidden]. transformers holds them turned."""
    BUILDS["vision and experts"](tmp_path / "built")
    built = load_file(tmp_path / "built" / "model.safetensors")
    policy = Policy(str(tmp_path / "built"))
    saved = _saved(policy, tmp_path / "saved")
    name = "model.language_model.layers.0.mlp.experts."
    assert saved[f"{name}gate_up_proj"].shape == (4, 32, 96)
    assert saved[f"{name}down_proj"].shape == (4, 48, 32)
    assert all(torch.equal(built[n], saved[n]) for n in built)
    held = policy.model.get_parameter(f"{name}gate_up_proj")
    assert torch.equal(held.transpose(1, 2), saved[f"{name}gate_up_proj"])


def test_parameters_under_their_own_names_would_not_do(tmp_path: Path) -> None:
    """The negative control: fused experts and tied heads are why names are reverted at all."""
    for kind in ("tied", "experts"):
        BUILDS[kind](tmp_path / kind)
        policy = Policy(str(tmp_path / kind))
        assert policy.model.state_dict().keys() != _saved(policy, tmp_path / f"{kind} saved").keys()


def test_what_is_declared_is_what_is_sent_in_the_same_order(policy: Policy) -> None:
    """vLLM cuts its buffers by the declaration: a difference would hang the transfer or load garbage."""
    weights = CheckpointWeights(policy.model, torch.bfloat16)
    sent = [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in weights]
    assert weights.metadata() == sent
    assert {dtype for _, dtype, _ in sent} == {torch.bfloat16}


def test_a_second_publish_sends_what_the_optimizer_made_of_them(tiny_folder: Path) -> None:
    policy = Policy(str(tiny_folder))
    weights = CheckpointWeights(policy.model, torch.float32)
    before = {name: tensor.clone() for name, tensor in weights}
    with torch.no_grad():
        policy.model.model.norm.weight.add_(1.0)
    after = dict(weights)
    changed = [name for name in after if not torch.equal(before[name], after[name])]
    assert changed == ["model.norm.weight"]


def test_lower_precision_is_rounded_as_the_engine_rounds_when_it_reads_a_folder(tiny_folder: Path) -> None:
    policy = Policy(str(tiny_folder))
    whole, rounded = (dict(CheckpointWeights(policy.model, dtype)) for dtype in (torch.float32, torch.bfloat16))
    assert all(torch.equal(rounded[name], whole[name].to(torch.bfloat16)) for name in whole)


def test_a_model_whose_names_cannot_be_reverted_is_refused_with_the_way_out(tiny_folder: Path) -> None:
    policy = Policy(str(tiny_folder))
    policy.model.peft_config = {"default": "lora"}
    with pytest.raises(LearnerError, match=r"it is an adapter.*sync\.method: disk"):
        CheckpointWeights(policy.model, torch.float32)
