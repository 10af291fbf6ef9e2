"""Tiny models for all unit tests: a Qwen3 with one layer of 32, built in a tenth of a second, and a Qwen3-VL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """One torch thread: the tensors are tiny, and the test processes share the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that nobody may change."""
    from sailrl.demo import tiny_text

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_text.build(folder, hidden_size=32, layers=1)
    return folder


@pytest.fixture(scope="session")
def vlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3-VL that nobody may change: a token covers 28 x 28 pixels, an image gives 1 to 256 of them."""
    from sailrl.demo import tiny_vlm

    folder = tmp_path_factory.mktemp("tiny_vlm") / "model"
    tiny_vlm.build(folder)
    return folder
