"""The configuration of a supervised stage: LongCoT (SAIL-VL2, arXiv 2509.14033, section 4.2.2) and Think-Fusion
(4.2.4). Numbers without a remark are the paper's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from sailrl.config.base import Plugin, Section
from sailrl.config.complaint import Complaint, Rules
from sailrl.config.learner import LearnerConfig, RanksConfig
from sailrl.config.schema import JobConfig, ModelConfig, PromptConfig, SourceConfig, TrainingRunConfig


class SftData(PromptConfig):
    """Rows to imitate: problems with a `response`, or with the `completion` that `sailrl fuse` writes."""

    train: SourceConfig
    """The rows."""
    steps: dict[str, Plugin] = Field(default_factory=dict)
    """Filters by name, applied to every row in this order (`data_filters.tags:NormaliseTags`, ...)."""
    balance: Plugin | None = None
    """Balances the lengths of the rows that are left (`data_filters.length:BalanceLengths`); null keeps them all."""
    max_tokens: int = Field(default=20480, ge=2)
    """Longest prompt and response together, image tokens included. `on_long_prompt` applies to a longer row; nothing is
    cut."""


class LrSearch(Section):
    """AdaLRS (arXiv 2506.13274): tries higher learning rates during the stage and keeps one when the loss falls faster.
    Otherwise weights and optimizer state are restored from a copy in host memory (12 bytes per trained parameter). A
    checkpoint that is due while a rate is tried is written when that is decided. SAIL-VL2 uses it in pre-training only,
    and finds that it does not help with instruction data (3.2.3)."""

    window_steps: int = Field(ge=2)
    """Steps over which the slope of the loss is measured (paper silent)."""
    margin: float = Field(default=0.0, ge=0)
    """Error of a slope in nats per step; slopes must differ by more than twice this (paper silent)."""
    up: float = Field(default=3.0, gt=1)
    """The next higher rate is the current one times this (the paper's 6.75e-4 is 2e-4 times 3/2 three times)."""
    down: float = Field(default=2.0, gt=1)
    """After a rate that was too high, the rate is the one before it divided by this."""
    decay: float = Field(default=0.99, gt=0, lt=1)
    """`up` and `down` move towards 1 by this factor in every round."""
    first_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the stage's steps before the search begins."""
    last_share: float = Field(default=0.4, gt=0, le=1)
    """Share of the stage's steps at which the search ends."""


class SftTraining(Section):
    """Optimizer, length and memory of a supervised stage."""

    rows_per_step: int = Field(default=1024, ge=1)
    """Rows in one optimizer step. The last step of an epoch has those that are left."""
    epochs: int = Field(default=1, ge=1)
    """How many times all rows are learned from."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps, instead of whole epochs."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up the rate falls to 0 along a cosine, or stays constant."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the rate rises linearly (paper silent)."""
    lr_search: LrSearch | None = None
    """Search for a better rate during the stage; null does not. The schedule is multiplied by the factor it finds."""
    loss_reduction: Literal["token_mean", "sample_sum"] = "token_mean"
    """`token_mean` gives every response token of a step the same weight, as most trainers do. `sample_sum` is equation
    3 as written: the mean over rows of the sum over their tokens, so a row counts in proportion to its length."""
    betas: tuple[float, float] = Field(default=(0.9, 0.999), strict=False)
    """AdamW's decay rates."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay (paper silent)."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest global gradient norm."""
    max_tokens_per_microbatch: int = Field(default=20480, ge=1)
    """Token budget of one forward and backward pass over packed samples. The gradient does not depend on it. Default:
    `data.max_tokens`, where it is larger than 20480."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more compute."""

    def learner(self, ranks: RanksConfig) -> LearnerConfig:
        """What the learner is told, which is the one of RL."""
        own = {name: getattr(self, name) for name in type(self).model_fields if name in LearnerConfig.model_fields}
        return LearnerConfig(**dict(ranks), **own)


class SftCheckpoints(Section):
    """When a stage is saved."""

    every_steps: int = Field(default=100, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(default=1, ge=1)
    """Checkpoints that are kept; older ones are removed."""


class SftConfig(JobConfig):
    """A supervised stage."""

    runs = "sailrl.sft.start:start_sft"
    loads = "torch and Ray"

    kind: Literal["sft"]
    """The job."""
    run: TrainingRunConfig = TrainingRunConfig()
    """The run folder, the seed, restarts and trackers."""
    model: ModelConfig
    """The model to train. The result is written to `model/` of the run folder, with an adapter (`model.lora`) merged
    into it."""
    data: SftData
    """The rows to imitate."""
    training: SftTraining = SftTraining()
    """Optimizer, length and memory of the stage."""
    learner: RanksConfig = RanksConfig()
    """Processes of the learner."""
    checkpoint: SftCheckpoints = SftCheckpoints()
    """When state is saved."""

    @model_validator(mode="wrap")
    @classmethod
    def _defaults_fit_together(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        config = validate(data)
        return config.unless_written("training.max_tokens_per_microbatch", max(20480, config.data.max_tokens))

    def outputs(self) -> dict[str, str]:
        """The trained model."""
        return {"model": "model"}


def _microbatch_holds_a_row(config: SftConfig) -> Iterator[Complaint]:
    budget, longest = config.training.max_tokens_per_microbatch, config.data.max_tokens
    if budget < longest:
        yield Complaint(
            ("training", "max_tokens_per_microbatch"),
            f"is {budget} and data.max_tokens is {longest}, but a micro-batch holds at least one row. "
            f"Write max_tokens_per_microbatch: {longest}, or lower data.max_tokens.",
        )


def _one_length(training: SftTraining) -> Iterator[Complaint]:
    if training.steps is not None and training.epochs > 1:
        yield Complaint(
            ("steps",),
            f"is {training.steps} and epochs is {training.epochs}, but a stage has one length. Remove one of the two.",
        )


def _search_has_room(search: LrSearch) -> Iterator[Complaint]:
    if search.first_share >= search.last_share:
        yield Complaint(
            ("first_share",),
            f"is {search.first_share:g} and last_share is {search.last_share:g}, but a search begins before it ends. "
            "The paper has 0.1 and 0.4.",
        )


SFT_RULES: Rules = [
    (SftConfig, _microbatch_holds_a_row),
    (SftTraining, _one_length),
    (LrSearch, _search_has_room),
]
