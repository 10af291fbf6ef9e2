"""The configuration of ``sailrl eval``: models side by side on held-out problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from sailrl.config.complaint import Complaint, Rules
from sailrl.config.filtering import ProblemsConfig
from sailrl.config.rewards import RewardsConfig
from sailrl.config.schema import SAIL_INSTRUCTION, JobConfig, ModelConfig, SamplingConfig


class EvaluateConfig(JobConfig):
    """Accuracy and response length of several models, each asked in several ways."""

    runs = "sailrl.commands.eval:start_eval"
    loads = "torch and Ray"

    kind: Literal["eval"]
    """The job."""
    models: dict[str, ModelConfig] = Field(min_length=1)
    """The models, by their names in the table."""
    data: ProblemsConfig
    """The held-out problems."""
    instructions: dict[str, str] = Field(default={"thinking": SAIL_INSTRUCTION, "direct": ""}, min_length=1)
    """Instructions by name. Every model gets every problem with each of them, in place of `data.instruction`. Default:
    `thinking` with `data.instruction` where there is one, and `direct` with none."""
    rewards: RewardsConfig
    """What scores the responses; `rewards.accuracy` names the part that says whether one is right."""
    rollout: SamplingConfig = SamplingConfig()
    """How the responses are sampled."""
    samples: int = Field(default=1, ge=1)
    """Responses per problem; accuracy is the share of all responses that are right."""
    temperature: float = Field(default=0.0, ge=0)
    """In place of `rollout.temperature`; 0 is greedy decoding."""

    @model_validator(mode="wrap")
    @classmethod
    def _asks_as_data_says(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        config = validate(data)
        asked = config.data.instruction
        return config.unless_written("instructions", {"thinking": asked, "direct": ""} if asked else {"direct": ""})


def _instruction_is_replaced(config: EvaluateConfig) -> Iterator[Complaint]:
    if config.data.instruction not in (SAIL_INSTRUCTION, *config.instructions.values()):
        yield Complaint(
            ("data", "instruction"),
            "is set, but instructions takes its place here. Write it there, under a name for the table.",
        )


def _models_are_there(config: EvaluateConfig) -> Iterator[Complaint]:
    for name, model in config.models.items():
        if model.build is not None:
            yield Complaint(
                ("models", name, "build"), "builds a model, but only one that is there can be tried. Give a path."
            )


EVALUATION_RULES: Rules = [
    (EvaluateConfig, _instruction_is_replaced),
    (EvaluateConfig, _models_are_there),
]
