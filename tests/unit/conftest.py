"""One tiny model for all unit tests: a Qwen3 with one layer of 32, built in a tenth of a second."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that nobody may change."""
    from sailrl.demo import tiny_text

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_text.build(folder, hidden_size=32, layers=1)
    return folder
