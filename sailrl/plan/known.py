"""Shapes of widely used models, for plans before the model is on this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sailrl.families.base import VisionShape
from sailrl.plan.memory import ModelShape

_FILE = Path(__file__).parent / "known_models.json"
_EDITION = re.compile(r"(-(instruct|thinking|base|2507))+$")
"""Ends of names of models of one shape."""


def known_shape(path: str) -> tuple[str, ModelShape] | None:
    """The ``model_type`` and the shape of a model by its name; None where it is not
    in the table."""
    name = _EDITION.sub("", path.rstrip("/").rpartition("/")[2].lower())
    for known, facts in json.loads(_FILE.read_text(encoding="utf-8")).items():
        if known.lower() == name:
            vision = facts.pop("vision")
            kind = facts.pop("kind")
            return kind, ModelShape(name=known, vision=vision and VisionShape(**vision), **facts)
    return None
