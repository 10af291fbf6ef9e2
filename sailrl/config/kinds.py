"""Every job that a YAML file can ask for, by its ``kind``."""

from __future__ import annotations

from sailrl.config.filtering import FilterConfig
from sailrl.config.fusing import FuseConfig
from sailrl.config.schema import JobConfig, RlvrConfig

KINDS: dict[str, type[JobConfig]] = {"rlvr": RlvrConfig, "filter": FilterConfig, "fuse": FuseConfig}
