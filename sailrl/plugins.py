"""Resolves ``"module:Name"`` or ``"path/to/file.py:Name"`` to an object. The only way user code enters sailrl."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from sailrl.errors import ConfigError

ALIAS = "sailrl_plugin:"
"""Begins the module name of every plug-in that was named by its file."""


def load(spec: str) -> Any:
    """Returns the object named by ``spec``: ``rewards.boxed:BoxedAnswer`` or ``./my_reward.py:MyReward``.

    Raises:
        ConfigError: the spec has no colon, the module does not import (its error is quoted), or it has no such name
            (the nearest ones are listed).
    """
    module_name, colon, name = spec.rpartition(":")
    if not colon or not module_name or not name.isidentifier():
        raise ConfigError(
            f"plug-in {spec!r} is not of the form 'module:Name' or 'file.py:Name'. "
            "Write for example 'rewards.boxed:BoxedAnswer' or 'my_reward.py:MyReward'."
        )
    module = _module(module_name, spec)
    try:
        return getattr(module, name)
    except AttributeError:
        public = sorted(n for n, v in vars(module).items() if not n.startswith("_") and callable(v))
        near = difflib.get_close_matches(name, public, n=3, cutoff=0.4) or public[:8]
        raise ConfigError(
            f"plug-in {spec!r}: {module_name} has no {name!r}. It offers: {', '.join(near) or 'nothing callable'}."
        ) from None


def build(spec: str, args: dict[str, Any] | None = None) -> Any:
    """Loads ``spec`` and calls it with ``args``; a failure of the constructor is a ConfigError that quotes it."""
    factory = load(spec)
    try:
        return factory(**(args or {}))
    except ConfigError:
        raise
    except Exception as error:
        given = ", ".join(f"{k}={v!r}" for k, v in (args or {}).items())
        raise ConfigError(
            f"plug-in {spec!r} could not be built with ({given}): {type(error).__name__}: {error}"
        ) from error


def _module(name: str, spec: str) -> ModuleType:
    if not name.endswith(".py"):
        try:
            return importlib.import_module(name)
        except Exception as error:
            raise ConfigError(
                f"plug-in {spec!r}: cannot import module {name!r}: {type(error).__name__}: {error}. "
                "For a file of your own, give its path: 'my_reward.py:MyReward'."
            ) from error
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise ConfigError(f"plug-in {spec!r}: there is no file {path}. Paths are relative to the folder you run from.")
    # One stable module name per file: loading it twice gives the same classes, in every process.
    alias = f"{ALIAS}{path}"
    if alias in sys.modules:
        return sys.modules[alias]
    module_spec = importlib.util.spec_from_file_location(alias, path)
    assert module_spec is not None  # a .py path always has a spec and a loader
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[alias] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[alias]
        raise ConfigError(f"plug-in {spec!r}: {path} fails on import: {type(error).__name__}: {error}") from error
    return module
