"""What every section of a configuration has in common."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Frozen, strict (no silent conversion of types), unknown keys refused; the text under a field documents it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    def unless_written(self, path: str, value: object) -> Self:
        """A copy with ``value`` at ``path`` (``rollout.workers``), or as it is where the configuration gives one: how a
        default follows from other values."""
        name, _, inner = path.partition(".")
        if inner:
            value = getattr(self, name).unless_written(inner, value)
        elif name in self.model_fields_set:
            return self
        return self.model_copy(update={name: value})


class Plugin(Section):
    """A class or function that the file names: one of sailrl's or your own."""

    use: str
    """Where it lives: `module:Name` or `path/to/file.py:Name`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Its keyword arguments."""
