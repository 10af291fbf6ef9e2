"""The exact arguments that each engine gets."""

from __future__ import annotations

from typing import Any

import pytest

from sailrl.config.checks import preflight_problems
from sailrl.config.engine_options import OURS, engine_options_are_known, vllm_options
from sailrl.config.schema import EngineConfig
from sailrl.config.yaml_text import Where
from sailrl.launch.engines import EngineSpec
from tests.fakes.local_run import make_config


def _options(*, dtype: str = "float32", transfer: str = "disk", **engine: Any) -> dict[str, Any]:
    config = make_config(model={"path": "m", "dtype": dtype}, rollout={"engine": engine})
    spec = EngineSpec(config.model, config.data, config.rollout, "m", "images", seed=7, transfer=transfer)
    return spec.options()


def test_an_engine_over_several_gpus_runs_its_own_processes() -> None:
    """vLLM would choose Ray in a placement group, which refuses bundles of more than one GPU."""
    assert _options(tensor_parallel=2)["distributed_executor_backend"] == "mp"
    assert "distributed_executor_backend" not in _options(tensor_parallel=1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_the_output_layer_computes_in_float32_as_the_learners_does(dtype: str) -> None:
    assert _options(dtype=dtype)["hf_overrides"] == {"head_dtype": "float32"}
    assert "hf_overrides" not in _options(dtype="float32")


def test_one_step_computes_as_many_tokens_as_the_memory_plan_says() -> None:
    assert _options()["max_num_batched_tokens"] == EngineConfig().max_num_batched_tokens == 8192
    assert _options(max_num_batched_tokens=4096)["max_num_batched_tokens"] == 4096


def test_any_other_option_of_vllm_is_passed_on_by_its_name() -> None:
    assert _options(enable_prefix_caching=False, swap_space=2) == {
        **_options(),
        "enable_prefix_caching": False,
        "swap_space": 2,
    }


def _complaints(**engine: Any) -> list[str]:
    return [f"{c.keys[0]} {c.text}" for c in engine_options_are_known(EngineConfig.model_validate(engine))]


def test_an_option_that_vllm_does_not_know_is_refused_with_the_nearest_name() -> None:
    if vllm_options() is None:
        pytest.skip("vLLM is not installed")
    (text,) = _complaints(enable_prefix_cashing=False)
    assert "no option of vLLM's AsyncEngineArgs" in text
    assert "Did you mean enable_prefix_caching?" in text
    assert not _complaints(enable_prefix_caching=False)


@pytest.mark.parametrize("name", sorted(OURS))
def test_an_option_that_follows_from_another_key_is_refused_with_that_key(name: str) -> None:
    (text,) = _complaints(**{name: "x"})
    assert "sailrl sets itself" in text
    assert OURS[name] in text


def test_every_option_that_sailrl_sets_is_one_of_vllms() -> None:
    known = vllm_options()
    if known is None:
        pytest.skip("vLLM is not installed")
    assert not OURS.keys() - known
    assert not _options(dtype="bfloat16", transfer="nccl", tensor_parallel=2).keys() - known


def test_the_preflight_asks_about_engine_options() -> None:
    config = make_config(rollout={"engine": {"max_model_len": 5}})
    assert any("max_model_len is an option of vLLM" in text for text in preflight_problems(config, Where()))
