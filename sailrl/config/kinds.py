"""Every job that a YAML file can ask for, by its ``kind``."""

from __future__ import annotations

import difflib

from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.filtering import FilterConfig
from sailrl.config.fusing import FuseConfig
from sailrl.config.recipe import RecipeConfig
from sailrl.config.schema import JobConfig, RlvrConfig
from sailrl.config.sft import SftConfig
from sailrl.errors import ConfigError

KINDS: dict[str, type[JobConfig]] = {
    "rlvr": RlvrConfig,
    "sft": SftConfig,
    "filter": FilterConfig,
    "fuse": FuseConfig,
    "eval": EvaluateConfig,
    "recipe": RecipeConfig,
}


def kind_class(kind: str) -> type[JobConfig]:
    """The configuration class of ``kind``.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind in KINDS:
        return KINDS[kind]
    near = difflib.get_close_matches(kind, list(KINDS), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"there is no kind of job {kind!r}. The kinds are: {', '.join(KINDS)}.{hint}")
