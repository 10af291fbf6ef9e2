"""Models that a plan knows by name have the published numbers of parameters and the shapes that transformers counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sailrl.learner.shape import model_shape
from sailrl.plan import known
from sailrl.plan.known import known_shape
from tests.fakes.shapes import SAIL_VL2_2B, sail_vl2_8b, write_config

# From the published safetensors files (a tied output layer counts once), and for Qwen3-VL-32B from its config: the text
# model is Qwen3-32B's, the tower Qwen3-VL-8B's with four projections of 4608 x (4608 + 1 + 5120) + 5120.
PARAMETERS = {
    "Qwen3-VL-2B": 2_127_532_032,
    "Qwen3-VL-4B": 4_437_815_808,
    "Qwen3-VL-8B": 8_767_123_696,
    "Qwen3-VL-32B": 33_357_390_064,
    "Qwen3-VL-30B-A3B": 31_070_754_032,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Qwen3-14B": 14_768_307_200,
    "Qwen3-32B": 32_762_123_264,
    "Qwen3-30B-A3B": 30_532_122_624,
    "Qwen2.5-VL-3B": 3_754_622_976,
    "Qwen2.5-VL-7B": 8_292_166_656,
    "SAIL-VL2-2B": 2_730_565_120 - 151_936 * 2048,  # 5,461,130,240 bytes of bfloat16, the tied layer stored twice
    "SAIL-VL2-8B": 8_914_730_496,
}


def test_the_table_holds_these_models_and_no_others() -> None:
    table = json.loads((Path(known.__file__).parent / "known_models.json").read_text())
    assert set(table) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_known_model_has_the_published_number_of_parameters(name: str) -> None:
    found = known_shape(name)
    assert found is not None
    assert found[1].parameters == PARAMETERS[name]


@pytest.mark.parametrize(("size", "name"), [("2b", "2B"), ("8b", "8B"), ("30b-a3b", "30B-A3B")])
def test_a_known_shape_is_the_one_that_transformers_builds(size: str, name: str, tmp_path: Path) -> None:
    found = known_shape(f"Qwen/Qwen3-VL-{name}-Thinking")
    assert found is not None
    kind, shape = found
    built = model_shape(write_config(size, tmp_path))
    assert replace(built, name="") == replace(shape, name="")
    assert kind == json.loads((tmp_path / "config.json").read_text())["model_type"]


@pytest.mark.parametrize("size", ["2B", "8B"])
def test_the_shapes_of_sail_vl2_are_those_of_our_model(size: str, tmp_path: Path) -> None:
    found = known_shape(f"BytedanceDouyinContent/SAIL-VL2-{size}-Thinking")
    assert found is not None
    built = model_shape(SAIL_VL2_2B if size == "2B" else sail_vl2_8b(tmp_path))
    assert replace(built, name="") == replace(found[1], name="")


def test_editions_of_a_model_share_a_shape_and_other_models_have_none() -> None:
    for path in (
        "Qwen/Qwen3-4B",
        "Qwen/Qwen3-4B-Base",
        "qwen/qwen3-4b-instruct-2507",
        "models/Qwen3-4B-Thinking-2507/",
    ):
        found = known_shape(path)
        assert found is not None
        assert found[1].name == "Qwen3-4B"
    for path in (
        "Qwen/Qwen3-4B-FP8",
        "Qwen/Qwen3-Embedding-4B",
        "runs/longcot/model",
        "Qwen/Qwen3-VL-8B-Thinking/x",
        "",
    ):
        assert known_shape(path) is None
