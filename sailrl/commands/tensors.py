"""The part of the preflight that needs torch: whether the tensors of every model folder are those of its model."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from sailrl.config.base import Section
from sailrl.config.complaint import Complaint, ask
from sailrl.config.load import join
from sailrl.config.needs import local_model, model_is_whole
from sailrl.config.references import refers
from sailrl.config.schema import ModelConfig
from sailrl.config.yaml_text import Where
from sailrl.errors import ConfigError


def tensor_problems(config: Section, where: Where | None = None) -> list[str]:
    """What is missing or too much in the model folders that a configuration names, as paragraphs; nothing where torch
    is not installed."""
    return ask([(ModelConfig, _tensors_fit)], config, where or Where()) if find_spec("torch") else []


def preflight_tensors(config: Section, where: Where | None = None) -> None:
    """Raises a ConfigError with all ``tensor_problems``."""
    if problems := tensor_problems(config, where):
        raise ConfigError(join(problems))


def _tensors_fit(model: ModelConfig) -> Iterator[Complaint]:
    folder = None if refers(model) else local_model(model)
    if folder is None or any(model_is_whole(model)):  # the preflight complains of it
        return
    from sailrl.learner.inventory import check_tensors  # loads torch

    try:
        check_tensors(folder, trust_remote_code=model.trust_remote_code)
    except ConfigError as error:
        yield Complaint(("path",), f"is {model.path!r}, but {error}")
