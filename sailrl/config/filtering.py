"""The configuration of ``sailrl filter``: which problems a model learns from (SAIL-VL2, section 4.2.3)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sailrl.config.base import Plugin, Section
from sailrl.config.rewards import RewardsConfig
from sailrl.config.schema import JobConfig, ModelConfig, PromptConfig, SamplingConfig, SourceConfig


class ProblemsConfig(PromptConfig):
    """The pool of problems and how they are put to the model."""

    problems: SourceConfig
    """The pool to choose from."""


class McqConfig(Section):
    """Multiple choice to free response, where the answer is a number or a formula and the question stands alone."""

    otherwise: Literal["keep", "drop"] = "keep"
    """What happens to multiple choice that cannot be converted (paper silent)."""
    rewrite: Plugin | None = None
    """Asks a language model to rewrite what the rules leave because of its wording; `data_filters.mcq_rewrite` checks
    what it says. `data_filters.mcq_judge:JudgeRewriter` asks an OpenAI-compatible server."""
    max_unanswered_rate: float = Field(default=0.1, ge=0, le=1)
    """The filter stops, before anything is sampled, when more than this share of the questions got no answer."""


class DedupConfig(Section):
    """One of every question: the same text and images, then nearly the same words."""

    near: float | None = Field(default=0.7, gt=0, le=1)
    """Share of word triples in common from which two questions are one; numbers, options and images must agree too.
    Null compares exactly only."""
    rows_per_image: int | None = Field(default=None, ge=1)
    """Most problems about one image, where images that look the same are one; null sets no limit."""


class DecontaminateConfig(Section):
    """Keeps evaluation problems out."""

    files: tuple[str, ...] = Field(min_length=1, strict=False)
    """Evaluation files, JSONL or Parquet."""
    near: float | None = Field(default=0.7, gt=0, le=1)
    """As in `dedup.near`."""
    image_distance: int | None = Field(default=4, ge=0, lt=32)
    """Bits of 256 up to which two images look the same, whatever is asked about them; null compares exactly."""


class PassAtKConfig(Section):
    """Which problems stay, by the accuracy of the model's samples. The paper's "pass@4" is that accuracy over 4."""

    k: int = Field(default=4, ge=1)
    """Fewest scored responses a decision needs, and the k of the pass@k in the evidence."""
    keep: tuple[float, float] = Field(default=(0.0, 1.0), strict=False)
    """Accuracy must lie strictly between the two; perception tasks have no lower bound."""
    rules: dict[str, Literal["reasoning", "perception"]] = Field(default_factory=dict)
    """Rule per task, over the built-in table (math, puzzle, science: reasoning; ocr, counting: perception; ...)."""
    default: Literal["reasoning", "perception"] = "reasoning"
    """Rule for tasks that no table knows."""
    correct_from: float = 1.0
    """A response counts as right from this score on."""


class FilterConfig(JobConfig):
    """Problems that the current model sometimes solves and sometimes does not."""

    kind: Literal["filter"]
    """The job."""
    model: ModelConfig | None = None
    """The model whose accuracy decides."""
    data: ProblemsConfig | None = None
    """The problems."""
    rewards: RewardsConfig | None = None
    """What scores its responses."""
    rollout: SamplingConfig = SamplingConfig()
    """How they are sampled."""
    samples: int = Field(default=4, ge=1)
    """Responses per problem."""
    scored: str | None = None
    """Instead of model and data: a file of scored responses (what `sailrl score` or an RL run wrote) to decide on."""
    correct: str | None = None
    """Name of the score that says a response is right; default: `rewards.accuracy`, and `boxed` without rewards."""
    mcq: McqConfig | None = None
    """First step, if given."""
    dedup: DedupConfig | None = None
    """Second step, if given."""
    decontaminate: DecontaminateConfig | None = None
    """Third step, if given."""
    pass_at_k: PassAtKConfig = PassAtKConfig()
    """The rule for what is left."""

    @property
    def correct_score(self) -> str:
        """Name of the score that says a response is right."""
        return self.correct or (self.rewards.accuracy_part if self.rewards else "boxed")
