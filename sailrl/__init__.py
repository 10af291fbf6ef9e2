"""sailrl: reinforcement-learning post-training for vision-language reasoning models."""

import importlib
from typing import Any

__version__ = "0.2.0"
__all__ = ["RunResult", "eval", "filter", "run", "score"]


def __getattr__(name: str) -> Any:
    """The commands as functions, loaded when they are first used: importing sailrl stays light."""
    if name in __all__:
        return getattr(importlib.import_module("sailrl.commands.python"), name)
    raise AttributeError(f"module 'sailrl' has no attribute {name!r}")
