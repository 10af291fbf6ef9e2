"""The engine that unit tests use keeps the contract that vLLM keeps (see tests/integration/test_sync_faults.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from sailrl.demo import tiny_text
from tests.contract.engine_suite import Bench, EngineContract
from tests.fakes.local import LocalEngine


class TestLocalEngine(EngineContract):
    @pytest.fixture(scope="class")
    def bench(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
        folder = tmp_path_factory.mktemp("engine")
        tiny_text.build(folder, hidden_size=32, layers=1)
        with asyncio.Runner() as loop:
            yield Bench(LocalEngine(folder), folder, loop)
