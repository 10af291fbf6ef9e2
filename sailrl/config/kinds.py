"""Every job that a YAML file can ask for, by its ``kind``."""

from __future__ import annotations

import difflib
from typing import get_args

from sailrl.config.messages import show
from sailrl.config.recipe import RecipeConfig, Stage
from sailrl.config.schema import JobConfig
from sailrl.errors import ConfigError

_CLASSES: tuple[type[JobConfig], ...] = (*get_args(get_args(Stage)[0]), RecipeConfig)
KINDS = {str(get_args(job.model_fields["kind"].annotation)[0]): job for job in _CLASSES}
"""The configuration class of each kind. The class says all that is known of its kind: keys, ``runs``, ``loads``."""


def kind_class(kind: object) -> type[JobConfig]:
    """The configuration class of ``kind``.

    Raises:
        ConfigError: there is no such kind.
    """
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    near = difflib.get_close_matches(str(kind), list(KINDS), n=1, cutoff=0.5)
    fix = f"Did you mean `kind: {near[0]}`?" if near else f"Write for example `kind: {next(iter(KINDS))}`."
    raise ConfigError(f"kind is {show(kind)}, but the kinds of job are: {', '.join(KINDS)}. {fix}")
