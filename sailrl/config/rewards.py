"""The `rewards:` section: which rewards score a response and how they become one number."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, model_validator

from sailrl.config.base import Plugin, Section

WEIGHTED = "rewards.mix:Weighted"


class RewardPart(Plugin):
    """One named reward."""

    weight: float = 0.0
    """Its coefficient in the total; the weights of all parts that are not penalties sum to 1 (SAIL-VL2, 4.2.5). The
    only part has 1 where none is written."""
    penalty: bool = False
    """Added on top of the weighted sum and left out of the rule that weights sum to 1 (soft overlong punishment)."""


class RewardsConfig(Section):
    """Rewards by name. The names appear in metrics (`reward/<name>`), in rollouts and in scored files."""

    parts: dict[str, RewardPart] = Field(min_length=1)
    """The rewards, by the name under which their scores appear."""
    combine: Plugin = Plugin(use=WEIGHTED)
    """How the scores of a response become one reward."""
    accuracy: str | None = None
    """The part that says whether a response is right: it is when this part scores a full 1, partial credit is not.
    Accuracy is the share of responses that are right, everywhere. Dynamic sampling compares the scores of this part;
    null is the first part."""
    deadline_s: float = Field(default=1.0, gt=0)
    """Longest time of one response in one CPU-bound reward. Then its worker is killed and replaced, and the score is
    `timed_out`."""
    workers: int = Field(default=2, ge=1)
    """Worker processes for CPU-bound rewards."""
    max_unscored_rate: float = Field(default=0.1, ge=0, le=1)
    """The run stops when more than this share of an episode's responses could not be scored."""

    @model_validator(mode="before")
    @classmethod
    def _the_only_part_counts_fully(cls, data: Any) -> Any:
        parts = data.get("parts") if isinstance(data, dict) else None
        if isinstance(parts, dict) and len(parts) == 1:
            ((name, part),) = parts.items()
            if isinstance(part, dict) and not part.get("penalty"):
                return data | {"parts": {name: {"weight": 1.0, **part}}}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> RewardsConfig:
        if self.accuracy is not None and self.accuracy not in self.parts:
            raise ValueError(f"accuracy names {self.accuracy!r}, but the parts are {', '.join(self.parts)}")
        weights = [part.weight for part in self.parts.values() if not part.penalty]
        if any(weights) and not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
            raise ValueError(
                f"the weights of the parts sum to {sum(weights):g}, the rule is 1; "
                "scale them, or mark a part that is added on top with penalty: true"
            )
        return self

    @property
    def accuracy_part(self) -> str:
        """Name of the part that counts as accuracy."""
        return self.accuracy or next(iter(self.parts))
