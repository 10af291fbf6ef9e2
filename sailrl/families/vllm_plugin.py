"""What vLLM learns of our families. It calls ``register`` in each of its processes, through the entry point
``vllm.general_plugins`` in pyproject.toml; a new entry point counts after the next `pip install`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MODELS = {
    "SAILVLModel": "sailrl.families.sail_vl2.vllm_model:SailVl2ForVllm",
    "SailVLModel": "sailrl.families.sail_vl2.vllm_model:SailVl2ForVllm",
}
"""Architectures of config.json that vLLM lacks, and where their classes are; loaded when a model needs one."""


def advice(error: str) -> str:
    """What to do about an error with which vLLM did not start, where it lacks a model that is ours; else nothing."""
    if "not supported" not in error or not any(f"'{name}'" in error for name in MODELS):
        return ""
    return " sailrl has this model, but vLLM has not found sailrl's entry point: install sailrl again, pip install -e ."


def register() -> None:
    """Adds models to vLLM's registry, and their configurations to transformers and vLLM. May be called again."""
    from vllm import ModelRegistry
    from vllm.transformers_utils import config as vllm_configs
    from vllm.transformers_utils.config_parser_base import ConfigParserBase

    from sailrl.families.sail_vl2.configuration import load
    from sailrl.families.sail_vl2.family import CONFIG_FORMAT, SailVl2

    for architecture, where in MODELS.items():
        ModelRegistry.register_model(architecture, where)
    SailVl2().register()
    if CONFIG_FORMAT in vllm_configs._CONFIG_FORMAT_TO_CONFIG_PARSER:
        return

    @vllm_configs.register_config_parser(CONFIG_FORMAT)
    class Parser(ConfigParserBase):  # for a kind whose name AutoConfig must leave to others
        def parse(self, model: str | Path, trust_remote_code: bool, *_: Any, **__: Any) -> tuple[dict, Any]:
            config = load(model)
            return config.to_dict(), config
