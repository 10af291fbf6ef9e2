"""What to score with, as plain data that crosses process borders, and how a reward is found by its name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sailrl import plugins
from sailrl.errors import ConfigError

BUILT_IN = "rewards"
"""The package in which a short name is looked up: ``boxed`` is the reward of the module ``rewards.boxed``."""


@dataclass(frozen=True, slots=True)
class PartSpec:
    """One named reward."""

    use: str
    """``module:Name`` or ``file.py:Name``: a class, built with ``args``, or a function, which gets them as keywords."""
    args: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class ScoringSpec:
    """All rewards of a run and the rule that combines them."""

    parts: Mapping[str, PartSpec]
    combine: PartSpec = PartSpec("rewards.mix:Weighted")
    workers: int = 2
    deadline_s: float = 1.0
    """Seconds one response may take in one CPU-bound reward. Async rewards (judges) have deadlines of their own."""
    memory_bytes: int = 1 << 30
    """What one response may allocate in a worker on top of what the loaded rewards hold."""

    @classmethod
    def from_config(cls, config: Any) -> ScoringSpec:
        """From the ``rewards:`` section (``sailrl.config.rewards.RewardsConfig``): the same, validated."""
        return cls(
            parts={name: PartSpec(p.use, dict(p.args), p.weight) for name, p in config.parts.items()},
            combine=PartSpec(config.combine.use, dict(config.combine.args)),
            workers=config.workers,
            deadline_s=config.deadline_s,
        )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each part of the reward, by its name."""
        return {name: part.weight for name, part in self.parts.items()}


def resolve(name: str) -> str:
    """The plug-in spec behind what a user types: a spec as it is, or a short name by convention.

    ``boxed`` means the module ``rewards.boxed`` and in it the one public class that scores responses, so a new built-in
    reward needs no registration.

    Raises:
        ConfigError: there is no such module, or it does not have exactly one reward.
    """
    if ":" in name:
        return name
    if not name.isidentifier():
        raise ConfigError(
            f"reward {name!r} is neither a short name such as 'boxed' nor 'module:Name' or 'file.py:Name'."
        )
    module = f"{BUILT_IN}.{name}"
    modules = [m.name for m in pkgutil.iter_modules(importlib.import_module(BUILT_IN).__path__) if not m.ispkg]
    if name not in modules:
        rewards = [known for known in modules if _rewards_in(f"{BUILT_IN}.{known}")]
        near = difflib.get_close_matches(name, rewards, n=3) or rewards
        raise ConfigError(
            f"there is no built-in reward {name!r}. Nearest: {', '.join(near)}. "
            "For one of your own write 'module:Name' or 'my_reward.py:MyReward'."
        )
    own = _rewards_in(module)
    if len(own) != 1:
        offer = ", ".join(f"'{module}:{key}'" for key in own) or "none"
        raise ConfigError(f"reward {name!r}: {module} has {len(own)} rewards, a short name needs exactly 1: {offer}.")
    return f"{module}:{own[0]}"


def _rewards_in(module: str) -> list[str]:
    """Names of the public classes of a built-in module that score responses."""
    try:
        found = vars(importlib.import_module(module))
    except Exception as error:
        raise ConfigError(f"cannot import {module}: {type(error).__name__}: {error}.") from error
    return [
        key
        for key, value in found.items()
        if inspect.isclass(value)
        and value.__module__ == module
        and not key.startswith("_")
        and _scores_responses(value)
    ]


def needs_no_arguments(use: str) -> None:
    """Refuses a reward that cannot be built from its name alone.

    Raises:
        ConfigError: it has arguments without a default, with the lines of YAML that can give them.
    """
    loaded = plugins.load(use)
    taken = ("response", "problem") if inspect.isfunction(loaded) else ()
    try:
        parameters = inspect.signature(loaded).parameters.values()
    except (TypeError, ValueError):
        return
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    missing = [name for name in required if name not in taken]
    if not missing or (
        taken and required[:2] != list(taken)
    ):  # arguments of another library: building raises the error
        return
    name = use.rpartition(":")[2]
    args = ", ".join(f"{argument}: ..." for argument in missing)
    raise ConfigError(
        f"the reward {use} needs arguments ({', '.join(missing)}), which --reward cannot give. Write them into a file "
        f"and score with --config FILE:\n\n"
        f'rewards:\n  parts:\n    {name.lower()}: {{use: "{use}", weight: 1.0, args: {{{args}}}}}'
    )


def build_reward(part: PartSpec) -> Any:
    """The reward itself. Raises ``ConfigError`` when it cannot be loaded, built or called as a reward."""
    return plugins.build_reward(part.use, part.args)


def absolute(part: PartSpec) -> PartSpec:
    """The same part with its file named absolutely, so that a worker started from another folder finds it."""
    path, colon, name = part.use.rpartition(":")
    if not path.endswith(".py"):
        return part
    return PartSpec(f"{Path(path).expanduser().resolve()}{colon}{name}", part.args, part.weight)


def _scores_responses(cls: type) -> bool:
    parameters = list(inspect.signature(cls.__call__).parameters) if "__call__" in dir(cls) else []
    return parameters[1:2] == ["response"]
