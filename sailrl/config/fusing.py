"""The configuration of ``sailrl fuse``: the next SFT set from RL rollouts and direct answers (SAIL-VL2, 4.2.4)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sailrl.config.base import Section
from sailrl.config.filtering import DecontaminateConfig
from sailrl.config.schema import JobConfig, SourceConfig


class SelectConfig(Section):
    """Rejection sampling: which of the scored responses become chains of thought to learn from."""

    correct: str = "boxed"
    """Name of the score that says the answer is right; `reward` takes the total instead."""
    correct_from: float = 1.0
    """Least value of that score."""
    well_formed: str | None = "think_format"
    """Name of the score for the format, which must be 1; null does not check it."""
    sound: str | None = None
    """Name of the score that a judge gave the reasoning; null does not check it."""
    sound_from: float = 1.0
    """Least value of that score."""
    rank: tuple[Literal["judge_score", "median_length", "least_repetition"], ...] = Field(
        default=("median_length",), min_length=1, strict=False
    )
    """How the responses to one problem are ordered, first criterion first (paper silent)."""
    at_most: int = Field(default=1, ge=1)
    """Responses per problem."""


class FuseConfig(JobConfig):
    """Mixes chains of thought that the model itself generated with direct answers into one SFT file."""

    runs = "sailrl.curate.fuse:start_fuse"

    kind: Literal["fuse"]
    """The job."""
    cot: tuple[str, ...] = Field(min_length=1, strict=False)
    """Scored responses: an RL run's rollouts.jsonl, a filter's scored.jsonl, or what `sailrl score` wrote."""
    direct: tuple[SourceConfig, ...] = Field(default=(), strict=False)
    """Problems with a direct answer (`response`, or else `answer`)."""
    select: SelectConfig = SelectConfig()
    """Which responses are taken."""
    cot_share: float = Field(default=0.1, ge=0, le=1)
    """Share of chains of thought among all rows, exact to the nearest row (the paper: 100K of 1M)."""
    total: int | None = Field(default=None, ge=1)
    """Rows to write; null writes the largest mix at this share."""
    allow_smaller: bool = False
    """Write the largest mix where a pool is too small for `total`, instead of stopping."""
    cot_instruction: str | None = None
    """Added to the prompt of a chain of thought where it is missing, so that the model learns when to think; empty adds
    nothing. Default: the `data.instruction` of the run in whose folder the files of `cot` are, nothing without one."""
    direct_instruction: str = ""
    """Added to the prompt of a direct answer where it is missing; empty adds nothing."""
    direct_template: str = "{answer}"
    """The response of a direct row without `response`."""
    decontaminate: DecontaminateConfig | None = None
    """Removes evaluation problems from both pools; null removes nothing."""
    format: Literal["jsonl", "parquet"] = "jsonl"
    """The file is `fused.jsonl` or `fused.parquet`."""

    def outputs(self) -> dict[str, str]:
        """The file of the mix."""
        return {"fused": f"fused.{self.format}"}
