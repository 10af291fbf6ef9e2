"""The configuration of ``sailrl filter``: which problems a model learns from (SAIL-VL2, section 4.2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from sailrl.config.base import Plugin, Section
from sailrl.config.rewards import RewardsConfig
from sailrl.config.schema import JobConfig, ModelConfig, PromptConfig, SamplingConfig, SourceConfig


class ProblemsConfig(PromptConfig):
    """The pool of problems, and how they become prompts."""

    problems: SourceConfig
    """The pool to choose from."""


class McqConfig(Section):
    """Multiple choice to free response, where the answer is a number or a formula and the question stands alone."""

    otherwise: Literal["keep", "drop"] = "keep"
    """What happens to multiple choice that cannot be converted (paper silent)."""
    rewrite: Plugin | None = None
    """Code that asks a language model to rewrite questions that the rules cannot convert because of their wording;
    `data_filters.mcq_rewrite` checks each answer. `data_filters.mcq_judge:JudgeRewriter` asks an OpenAI-compatible
    server. Null rewrites nothing."""
    max_unanswered_rate: float = Field(default=0.1, ge=0, le=1)
    """Largest share of the questions that may get no answer from `rewrite`; past it the filter stops before anything is
    sampled."""


class DedupConfig(Section):
    """Removes duplicates: first equal text and images, then nearly equal words."""

    near: float | None = Field(default=0.7, gt=0, le=1)
    """Share of word triples in common from which two questions are duplicates; their numbers, options and images must
    be equal too. Null removes exact duplicates only."""
    rows_per_image: int | None = Field(default=None, ge=1)
    """Most problems about one image; images that look the same count as one. Null sets no limit."""


class DecontaminateConfig(Section):
    """Removes problems that are in evaluation files or in public benchmarks."""

    files: tuple[str, ...] = Field(default=(), strict=False)
    """Evaluation files."""
    benchmarks: tuple[str, ...] = Field(default=(), strict=False)
    """Public benchmarks by name, as `sailrl eval` takes them."""
    benchmarks_folder: str = "~/LMUData"
    """Folder with their files, under VLMEvalKit's names."""
    near: float | None = Field(default=0.7, gt=0, le=1)
    """As in `dedup.near`."""
    image_distance: int | None = Field(default=4, ge=0, lt=32)
    """Two images look the same up to this distance between their perceptual hashes; a problem with such an image is
    removed whatever it asks. Null compares files exactly."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is kept out."""
        return (*self.files, *self.benchmarks)


class PassAtKConfig(Section):
    """Which problems are kept, by the accuracy of the model's responses. The paper's "pass@4" is the accuracy of 4."""

    k: int = Field(default=4, ge=1)
    """Fewest scored responses that a decision needs, and the k of pass@k in `evidence.jsonl`."""
    keep: tuple[float, float] = Field(default=(0.0, 1.0), strict=False)
    """A problem is kept when its accuracy lies strictly between the two; perception tasks have no lower bound."""
    rules: dict[str, Literal["reasoning", "perception"]] = Field(default_factory=dict)
    """The rule of a task, by its name; overrides the built-in table (math, puzzle, science: reasoning; ocr, counting:
    perception; ...)."""
    default: Literal["reasoning", "perception"] = "reasoning"
    """The rule for all other tasks."""
    correct_from: float = 1.0
    """A response is right when its score is at least this."""


class FilterConfig(JobConfig):
    """Keeps the problems that a model solves in some of its responses."""

    runs = "sailrl.curate.filter:start_filter"

    kind: Literal["filter"]
    """The job."""
    model: ModelConfig | None = None
    """The model whose accuracy decides."""
    data: ProblemsConfig | None = None
    """The problems."""
    rewards: RewardsConfig | None = None
    """What scores the responses."""
    rollout: SamplingConfig = SamplingConfig()
    """How the responses are sampled."""
    samples: int = Field(default=4, ge=1)
    """Responses per problem."""
    scored: str | None = None
    """A file of scored responses (from `sailrl score` or an RL run) to decide on, in place of `model` and `data`."""
    correct: str | None = None
    """Name of the score that says a response is right; default: `rewards.accuracy`, and `boxed` without rewards."""
    mcq: McqConfig | None = None
    """First step: multiple choice becomes free response; null leaves the step out."""
    dedup: DedupConfig | None = None
    """Second step: duplicates are removed; null leaves the step out."""
    decontaminate: DecontaminateConfig | None = None
    """Third step: evaluation problems are removed; null leaves the step out."""
    pass_at_k: PassAtKConfig = PassAtKConfig()
    """Last step: problems are kept by accuracy."""

    def outputs(self) -> dict[str, str]:
        """Its four files of rows."""
        return {name: f"{name}.jsonl" for name in ("kept", "dropped", "evidence", "scored")}

    @property
    def origin(self) -> SamplingFilter | ScoredFilter:
        """The filter by where its responses come from; the checks make sure that all of one kind is given."""
        if self.model is not None and self.data is not None and self.rewards is not None:
            return SamplingFilter(self, self.model, self.data, self.rewards)
        return ScoredFilter(self, str(self.scored))

    @property
    def correct_score(self) -> str:
        """Name of the score that says a response is right."""
        return self.correct or (self.rewards.accuracy_part if self.rewards else "boxed")


@dataclass(frozen=True, slots=True)
class SamplingFilter:
    """A filter whose model answers the problems."""

    config: FilterConfig
    model: ModelConfig
    data: ProblemsConfig
    rewards: RewardsConfig


@dataclass(frozen=True, slots=True)
class ScoredFilter:
    """A filter that reads responses which are scored already."""

    config: FilterConfig
    scored: str
    """The file."""
