"""Finds the instruction that a model was trained with, in the run folder that contains it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.yaml_text import parse
from sailrl.errors import ConfigError
from sailrl.launch.run_folder import RESOLVED

_LEVELS = 4
"""A checkpoint's model is three folders below its run."""
_SHOWN = 60


def instruction_of(path: Path) -> tuple[Path, str] | None:
    """The folder of the RL run or filter that holds ``path``, and its ``data.instruction``; None without such a run."""
    for folder in (path.absolute(), *path.absolute().parents)[: _LEVELS + 1]:
        try:
            config, _ = parse((folder / RESOLVED).read_text(encoding="utf-8"), RESOLVED)
        except (OSError, UnicodeDecodeError, ConfigError):
            continue
        data = config.get("data") if isinstance(config, dict) and config.get("kind") in ("rlvr", "filter") else None
        instruction = data.get("instruction") if isinstance(data, dict) else None
        return (folder, instruction) if isinstance(instruction, str) else None
    return None


def asked_otherwise(config: EvaluateConfig) -> Iterator[str]:
    """A line for each model that was trained with another instruction than every one of the evaluation."""
    for name, model in config.models.items():
        found = instruction_of(Path(model.path or "").expanduser())
        if found is not None and found[1] not in config.instructions.values():
            folder, instruction = found
            here = " and ".join(map(shown, config.instructions.values()))
            yield (
                f"the model {name} was trained with data.instruction {shown(instruction)} ({folder / RESOLVED}) and is "
                f"asked with {here} here. To ask it as it was trained, add that to instructions."
            )


def shown(instruction: str) -> str:
    """The beginning of an instruction, in quotes."""
    return repr(instruction if len(instruction) <= _SHOWN else instruction[:_SHOWN] + "...")
