"""What is special about a kind of model is written in ``sailrl/families`` alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sailrl.config.schema import LoraConfig
from sailrl.learner.model import Policy
from tests.fakes.family_toys import build_toy

ROOT = Path(__file__).resolve().parents[3] / "sailrl"
MODELS = re.compile(
    r"qwen|internvl|llava|gemma|mistral|image_pad|IMG_CONTEXT|\.visual\.|vision_model|mlp1|deepstack|merger|grid_thw"
    r"|\bllm_config|get_rope_index|\bvision_config",
    re.IGNORECASE,
)
"""Names of models, of their tokens, and of what only some of them have. The paper's name is no model's in a remark."""
ROOMS = ("families", "demo")
"""A demo builds its own toy, so it names the model that it builds."""


def named(folder: Path) -> list[str]:
    files = [path for path in sorted(folder.rglob("*.py")) if path.relative_to(folder).parts[0] not in ROOMS]
    return [
        f"{path.relative_to(folder)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MODELS.search(line)
    ]


def test_no_module_outside_the_rooms_of_the_families_names_a_model() -> None:
    assert named(ROOT) == []


@pytest.mark.parametrize("line", ["if '.visual.' in name:", "kind == 'qwen3_vl'", "out['image_grid_thw']"])
def test_a_model_that_is_named_elsewhere_would_be_seen(line: str, tmp_path: Path) -> None:
    for room in ("learner", "families"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text(f"first = 1\n{line}\n")
    assert named(tmp_path) == [f"learner/a.py:2: {line}"]


def test_an_adapter_is_given_to_the_language_model_where_the_tower_has_layers_of_the_same_names(tmp_path: Path) -> None:
    """Qwen2.5-VL's tower has gate_proj, up_proj and down_proj, too; a name that only the tower has means the tower."""
    folder = build_toy("Qwen2.5-VL", tmp_path / "model")
    for names, parts in (
        (("q_proj", "gate_proj", "up_proj"), {"language_model"}),
        (("q_proj", "qkv"), {"language_model", "vision"}),
    ):
        policy = Policy(str(folder), adapter=LoraConfig(rank=2, target_modules=names))
        adapted = [name for name, parameter in policy.model.named_parameters() if parameter.requires_grad]
        assert {policy.family.part(name) for name in adapted} == parts
