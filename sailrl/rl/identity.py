"""The identity of an RL experiment. Checkpoints keep it, and a resume with another identity is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sailrl import plugins
from sailrl.config.schema import RlvrConfig
from sailrl.curate.candidates import problem_digest
from sailrl.data.chat_template import read_template
from sailrl.launch.fingerprint import digest
from sailrl.launch.starts import model_identity, settings_identity
from sailrl.rl.prepare import Prepared
from sailrl.types import Prompt

SETTINGS = (
    "model.build",
    "model.lora",
    "model.dtype",
    "warm_start",
    "rewards.parts",
    "rewards.combine",
    "rewards.accuracy",
    "batch.group_size",
    "algorithm.name",
    "run.seed",
)
FIXED = ("model.content", "model.base", "model.build", "model.lora", "warm_start")
"""Keys that can never change: the weights and the adapter of a checkpoint belong to one model."""
DRAWN = ("data.train.content", "run.seed")
"""Keys that decide which problems are drawn next."""


def whole_identity(config: RlvrConfig, settings: Mapping[str, Any], prepared: Prepared, folder: Path) -> dict[str, Any]:
    """The whole identity. It has the content and order of the problems, not the names of their files, and includes the
    code of rewards and the base of an adapter."""
    found = settings_identity(SETTINGS, settings, config.model, folder)
    found["rewards.code"] = {name: plugins.code_digest(part.use) for name, part in config.rewards.parts.items()}
    found["rewards.combine.code"] = plugins.code_digest(config.rewards.combine.use)
    if config.data.chat_template is not None:
        found["data.chat_template.content"] = digest(read_template(config.data.chat_template))
    found |= {"data.train.content": _problems(prepared.train), "data.eval.content": _problems(prepared.eval)}
    return found | {"model.base": model_identity(config.model, prepared.model, folder)} if config.model.lora else found


def same_draws(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether runs with these two identities draw the same problems."""
    return all(one.get(key) == other.get(key) for key in DRAWN)


def _problems(prompts: Sequence[Prompt]) -> str:
    contents = [[problem_digest(replace(prompt.problem, images=())), *prompt.images] for prompt in prompts]
    return f"{len(prompts):,} problems, {digest(contents)}" if prompts else "none"
