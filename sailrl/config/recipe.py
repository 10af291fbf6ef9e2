"""The configuration of a recipe: jobs in a row, each in a folder of its own, the output of one feeding the next."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Annotated, Literal

from pydantic import Field

from sailrl.config.base import Plugin
from sailrl.config.complaint import Complaint, Rules
from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.filtering import FilterConfig
from sailrl.config.fusing import FuseConfig
from sailrl.config.references import SERVICE_OUTPUT, references
from sailrl.config.schema import JobConfig, RlvrConfig
from sailrl.config.sft import SftConfig

Stage = Annotated[RlvrConfig | SftConfig | FilterConfig | FuseConfig | EvaluateConfig, Field(discriminator="kind")]


class RecipeConfig(JobConfig):
    """Runs jobs one after another. `${longcot.model}` in a stage is the model that the earlier stage `longcot` made."""

    runs = "sailrl.commands.recipe:start_recipe"

    kind: Literal["recipe"]
    """The job."""
    services: dict[str, Plugin] = Field(default_factory=dict)
    """Servers that run as long as the recipe, for example a judge. Each is a context manager that gives its address,
    which a stage writes as `${judge.url}`."""
    stages: dict[str, Stage] = Field(min_length=1)
    """The jobs in their order, each by the name of its folder."""


def _references_lead_back(config: RecipeConfig) -> Iterator[Complaint]:
    known: dict[str, Collection[str]] = dict.fromkeys(config.services, (SERVICE_OUTPUT,))
    for stage, job in config.stages.items():
        for keys, name, output in references(job):
            at = ("stages", stage, *keys)
            text = f"refers to ${{{name}.{output}}}, but"
            if name not in known:
                later = name in config.stages
                near = difflib.get_close_matches(name, known, n=1)
                why = "that stage does not come before this one" if later else f"there is no stage {name!r} before it"
                fix = f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(known) or 'none'}."
                yield Complaint(at, f"{text} {why}.{fix}")
            elif output not in known[name]:
                has = ", ".join(known[name]) or "nothing"
                yield Complaint(at, f"{text} what {name!r} gives is: {has}.")
        known[stage] = job.outputs()


def _names_make_folders(config: RecipeConfig) -> Iterator[Complaint]:
    for name in config.stages:
        if not name.replace("_", "").replace("-", "").isalnum():
            yield Complaint(
                ("stages", name), "is the name of a folder; write letters, digits, hyphens and underscores only."
            )
        if name in config.services:
            yield Complaint(("stages", name), "is also the name of a service; each name stands for one thing.")


def _one_folder(config: RecipeConfig) -> Iterator[Complaint]:
    for name, job in config.stages.items():
        if job.run.dir is not None:
            yield Complaint(
                ("stages", name, "run", "dir"),
                f"is {job.run.dir!r}, but the stages of a recipe lie in its own folder. Remove it.",
            )


RECIPE_RULES: Rules = [
    (RecipeConfig, _references_lead_back),
    (RecipeConfig, _names_make_folders),
    (RecipeConfig, _one_folder),
]
