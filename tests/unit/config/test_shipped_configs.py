"""Every configuration we ship loads, keeps the rules, and says what the recipe says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sailrl.config.checks import validate
from sailrl.config.load import load, load_config, resolved_yaml
from sailrl.config.losses import Dapo
from sailrl.config.schema import RlvrConfig

CONFIGS = Path(__file__).parents[3] / "configs"
ALL = sorted(CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_a_shipped_configuration_keeps_every_rule(path: Path) -> None:
    loaded = load(path)
    validate(loaded.config, loaded.where)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_its_resolved_copy_is_the_same_configuration(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    copy = tmp_path / "resolved.yaml"
    copy.write_text(resolved_yaml(config))
    reloaded = load_config(copy)
    assert reloaded == config
    validate(reloaded)


@pytest.mark.parametrize("size", ["2b", "8b"])
def test_the_papers_own_models_are_trained_with_the_same_numbers(size: str) -> None:
    own, other = (load_config(CONFIGS / f"{name}_{size}.yaml") for name in ("sail_vl2", "rlvr"))
    assert isinstance(own, RlvrConfig)
    assert isinstance(other, RlvrConfig)
    assert own.model_copy(update={"model": other.model, "run": other.run}) == other
    assert own.model.path == f"BytedanceDouyinContent/SAIL-VL2-{size.upper()}-Thinking"


@pytest.mark.parametrize("name", ["rlvr_8b.yaml", "rlvr_2b.yaml"])
def test_the_papers_numbers_stand_in_the_file(name: str) -> None:
    config = load_config(CONFIGS / name)
    assert isinstance(config, RlvrConfig)
    assert (config.data.max_prompt_tokens, config.rollout.max_response_tokens) == (16384, 4096)
    batch = config.batch
    assert (batch.group_size, batch.rollouts_per_episode, batch.rollouts_per_update) == (8, 2048, 512)
    assert batch.passes_per_episode == 2
    assert (config.learner.learning_rate, config.learner.warmup_updates, config.learner.grad_clip) == (1e-6, 0, 1.0)
    assert config.model.dtype == "bfloat16"
    assert isinstance(config.algorithm, Dapo)
    assert (config.algorithm.clip.low, config.algorithm.clip.high) == (0.20, 0.28)
    weights = {part: (spec.weight, spec.penalty) for part, spec in config.rewards.parts.items()}
    assert weights == {"boxed": (0.9, False), "think_format": (0.1, False), "overlong": (0.5, True)}
    overlong = config.rewards.parts["overlong"].args
    # DAPO: 4096 of 20480 tokens are buffer, a fifth; 4096 / 5 = 819.2.
    assert overlong == {"max_response_tokens": 4096, "buffer_tokens": 819}
    assert config.rewards.accuracy_part == "boxed"
