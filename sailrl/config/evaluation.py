"""The configuration of ``sailrl eval``: models side by side on held-out problems."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from sailrl.config.benchmarks import BENCHMARKS
from sailrl.config.complaint import Complaint, Rules
from sailrl.config.filtering import DecontaminateConfig
from sailrl.config.rewards import RewardsConfig
from sailrl.config.schema import SAIL_INSTRUCTION, JobConfig, ModelConfig, PromptConfig, SamplingConfig
from sailrl.config.sources import SourceConfig


class HeldOutConfig(PromptConfig):
    """Held-out problems, and how problems become prompts."""

    problems: SourceConfig | None = None
    """The problems; null where only `benchmarks` are tried."""


class EvaluateConfig(JobConfig):
    """Accuracy and response length of several models, each asked in several ways."""

    runs = "sailrl.commands.eval:start_eval"
    loads = "torch and Ray"

    kind: Literal["eval"]
    """The job."""
    models: dict[str, ModelConfig] = Field(min_length=1)
    """The models, by their names in the table."""
    data: HeldOutConfig = HeldOutConfig()
    """The held-out problems."""
    benchmarks: tuple[str, ...] = Field(default=(), strict=False)
    """Public benchmarks by name (`mathvista_mini`, `mmmu_val`, ...: docs/benchmarks.md). Each has its own problems and
    its own rule."""
    benchmarks_folder: str = "~/LMUData"
    """Folder with their files, under VLMEvalKit's names."""
    instructions: dict[str, str] = Field(default={"thinking": SAIL_INSTRUCTION, "direct": ""}, min_length=1)
    """Instructions by name. Every model gets every problem with each of them, in place of `data.instruction`. Default:
    `thinking` with `data.instruction` where there is one, and `direct` with none."""
    rewards: RewardsConfig | None = None
    """What scores the responses to `data.problems`; `rewards.accuracy` names the part that says which are right."""
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


def _something_is_tried(config: EvaluateConfig) -> Iterator[Complaint]:
    if config.data.problems is None and not config.benchmarks:
        yield Complaint(
            ("data", "problems"),
            "is missing, and so is benchmarks; an evaluation needs problems. Write for example `problems: {path: "
            "held_out.jsonl}`, or `benchmarks: [mathvista_mini]`.",
        )
    if (config.data.problems is None) != (config.rewards is None):
        what = "is missing, but data.problems need it" if config.rewards is None else "has no data.problems to score"
        yield Complaint(("rewards",), f"{what}; benchmarks have rules of their own. Give both, or none of the two.")


def _benchmarks_are_known(config: EvaluateConfig | DecontaminateConfig) -> Iterator[Complaint]:
    for number, name in enumerate(config.benchmarks):
        if name not in BENCHMARKS:
            near = difflib.get_close_matches(name, BENCHMARKS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(BENCHMARKS)}."
            yield Complaint(("benchmarks", number), f"is {name!r}, which is no benchmark here. {hint}")
        if name in config.benchmarks[:number]:
            yield Complaint(("benchmarks", number), f"is {name!r}, which is there twice. Remove one.")


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
    (EvaluateConfig, _something_is_tried),
    (EvaluateConfig, _benchmarks_are_known),
    (DecontaminateConfig, _benchmarks_are_known),
    (EvaluateConfig, _instruction_is_replaced),
    (EvaluateConfig, _models_are_there),
]
