"""Every generated file under ``docs/``, by its name."""

from __future__ import annotations

import json
from pathlib import Path

from docs.generate.algorithms_page import algorithms_page
from docs.generate.benchmarks_page import benchmarks_page
from docs.generate.commands_page import commands_page
from docs.generate.config_page import config_page
from docs.generate.metrics_page import metrics_page
from docs.generate.models_page import models_page
from docs.generate.python_page import python_page
from docs.generate.rewards_page import rewards_page
from sailrl.commands.schema import schema_text
from sailrl.config.kinds import KINDS

DOCS = Path(__file__).resolve().parents[1]


def pages() -> dict[str, str]:
    """The text of each file, by its path under ``docs/``."""
    schemas = {kind: schema_text(kind) for kind in KINDS}
    files = {f"schema/{kind}.json": text for kind, text in schemas.items()}
    files["config.md"] = config_page({kind: json.loads(text) for kind, text in schemas.items()})
    files["algorithms.md"] = algorithms_page()
    files["benchmarks.md"] = benchmarks_page()
    files["commands.md"] = commands_page()
    files["metrics.md"] = metrics_page()
    files["models.md"] = models_page()
    files["rewards.md"] = rewards_page()
    files["python.md"] = python_page()
    return files
