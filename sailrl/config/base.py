"""What every section of a configuration has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Frozen, strict (no silent conversion of types), unknown keys refused; the text under a field documents it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Plugin(Section):
    """A piece of code named in the YAML: ours or the user's."""

    use: str
    """Where it lives: `module:Name` or `path/to/file.py:Name`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments it is built with."""
