"""Every job that a YAML file can ask for, by its ``kind``."""

from __future__ import annotations

from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.filtering import FilterConfig
from sailrl.config.fusing import FuseConfig
from sailrl.config.recipe import RecipeConfig
from sailrl.config.schema import JobConfig, RlvrConfig
from sailrl.config.sft import SftConfig

KINDS: dict[str, type[JobConfig]] = {
    "rlvr": RlvrConfig,
    "sft": SftConfig,
    "filter": FilterConfig,
    "fuse": FuseConfig,
    "eval": EvaluateConfig,
    "recipe": RecipeConfig,
}
