"""A model folder holds every tensor of its model and no other, or nothing starts from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sailrl.commands.tensors import tensor_problems
from sailrl.config.evaluation import EvaluateConfig
from sailrl.demo import tiny_text
from sailrl.errors import ConfigError
from sailrl.learner.inventory import check_tensors
from sailrl.learner.model import Policy

UP = "model.layers.0.mlp.up_proj.weight"
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def tied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tied") / "model"
    tiny_text.build(folder, hidden_size=32, layers=2, tie_embeddings=True)
    return folder


@pytest.fixture(scope="module")
def moe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moe") / "model"
    tiny_text.build(folder, hidden_size=32, layers=2, experts=4)
    return folder


def changed(folder: Path, out: Path, change: Callable[[Weights], object]) -> Path:
    """A copy of a model folder, its tensors changed."""
    shutil.copytree(folder, out)
    weights = load_file(out / "model.safetensors")
    change(weights)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        check_tensors(folder)
    return str(refused.value)


def test_whole_folders_pass(tiny_folder: Path, vlm_folder: Path, tied_folder: Path, moe_folder: Path) -> None:
    for folder in (tiny_folder, vlm_folder, tied_folder, moe_folder):
        check_tensors(folder)


def test_a_missing_tensor_is_named_before_anything_trains_on_random_numbers(tiny_folder: Path, tmp_path: Path) -> None:
    folder = changed(tiny_folder, tmp_path / "gap", lambda weights: weights.pop(UP))
    assert f"Qwen3ForCausalLM. 1 missing: {UP}." in refusal(folder)
    with pytest.raises(ConfigError, match=f"1 missing: {UP}"):  # the learner itself, which also loads hub models
        Policy(str(folder))


def test_a_head_that_is_tied_is_not_missing_and_one_that_is_not_is(
    tiny_folder: Path, tied_folder: Path, tmp_path: Path
) -> None:
    assert "lm_head.weight" not in load_file(tied_folder / "model.safetensors")
    check_tensors(tied_folder)
    both = changed(
        tied_folder, tmp_path / "both", lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()})
    )
    check_tensors(both)
    headless = changed(tiny_folder, tmp_path / "headless", lambda weights: weights.pop("lm_head.weight"))
    assert "1 missing: lm_head.weight." in refusal(headless)


def test_another_shape_is_named_with_both(tiny_folder: Path, tmp_path: Path) -> None:
    width = load_file(tiny_folder / "model.safetensors")["model.norm.weight"].shape[0]
    folder = changed(tiny_folder, tmp_path / "s", lambda w: w.update({"model.norm.weight": torch.zeros(3)}))
    assert f"1 of another shape: model.norm.weight, [3] instead of [{width}]." in refusal(folder)


def test_a_tensor_that_the_model_does_not_have_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = changed(tiny_folder, tmp_path / "x", lambda w: w.update({"model.layers.7.mlp.up": torch.zeros(3)}))
    assert "1 unknown to the model: model.layers.7.mlp.up." in refusal(folder)


def test_what_old_files_hold_besides_weights_is_no_fault(tiny_folder: Path, tmp_path: Path) -> None:
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(3)}
    check_tensors(changed(tiny_folder, tmp_path / "old", lambda w: w.update(old)))


def test_a_lost_expert_is_named_though_experts_are_fused_when_they_load(moe_folder: Path, tmp_path: Path) -> None:
    lost = "model.layers.1.mlp.experts.2.up_proj.weight"
    assert f"1 missing: {lost}." in refusal(changed(moe_folder, tmp_path / "lost", lambda w: w.pop(lost)))


def test_a_lost_block_of_the_vision_tower_is_counted_and_listed_in_part(vlm_folder: Path, tmp_path: Path) -> None:
    def without_block(weights: Weights) -> None:
        for name in [name for name in weights if ".visual.blocks.0." in name]:
            del weights[name]

    message = refusal(changed(vlm_folder, tmp_path / "blind", without_block))
    assert "12 missing: model.visual.blocks.0.attn.proj.bias, " in message
    assert "and 7 more." in message  # 5 of 12 are listed


def test_the_config_of_another_model_is_told(tiny_folder: Path, tied_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    assert "2 of another shape: lm_head.weight, [" in refusal(folder)
    with pytest.raises(ConfigError, match=r"11 missing: model\.layers\.1"):
        check_tensors(tiny_folder, like=tied_folder)


def test_weights_in_several_files_count_together(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {"a.safetensors": [UP], "b.safetensors": [name for name in weights if name != UP]}
    for file, names in parts.items():
        save_file({name: weights[name] for name in names}, folder / file, metadata={"format": "pt"})
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    check_tensors(folder)
    save_file({"other": weights[UP]}, folder / "a.safetensors", metadata={"format": "pt"})
    assert f"1 missing: {UP}. 1 unknown to the model: other." in refusal(folder)


def test_every_model_of_a_job_is_asked_about(tiny_folder: Path, tmp_path: Path) -> None:
    folder = changed(tiny_folder, tmp_path / "gap", lambda weights: weights.pop(UP))
    config = EvaluateConfig.model_validate(
        {
            "kind": "eval",
            "models": {"whole": {"path": str(tiny_folder)}, "gap": {"path": str(folder)}, "hub": {"path": "org/name"}},
            "data": {"problems": {"path": "unused.jsonl"}},
            "rewards": {"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
        }
    )
    (problem,) = tensor_problems(config)
    assert "models.gap.path is " in problem
    assert UP in problem
