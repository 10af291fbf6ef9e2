"""Faults injected into a real vLLM engine with experts: each is caught within one episode and named."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from sailrl.errors import MismatchError, SailError, WeightSyncError
from sailrl.plan.batch import batch_plan
from sailrl.report.progress import PlainProgress
from sailrl.rl.loop import train
from sailrl.rollout.engine import Request, Sampling
from sailrl.types import Completion
from tests.contract.engine_suite import Bench
from tests.fakes.local import OnePool
from tests.fakes.local_run import LocalRun, make_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Faulty(OnePool):
    """The real engine, with a fault on the way to it."""

    def __init__(self, engine: Any, fault: str, layer: str) -> None:
        super().__init__(engine)
        self._fault, self._layer = fault, layer
        self._first: dict[str, torch.Tensor] = {}

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        if self._fault == "temperature":
            sampling = replace(sampling, temperature=0.7)
        if self._fault == "top_p":
            sampling = replace(sampling, top_p=0.6)
        if self._fault == "template":
            requests = [replace(r, token_ids=list(r.token_ids)[:-2], expanded=len(r.token_ids) - 2) for r in requests]
        async for item in self.engine.generate(requests, sampling, seed=seed):
            yield item

    async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
        file = Path(folder) / "model.safetensors"
        tensors = load_file(file)
        self._first = self._first or {name: value.clone() for name, value in tensors.items()}
        if self._fault == "unsynced":
            lost = {name: value for name, value in self._first.items() if name.startswith(self._layer)}
            await self._with(tensors | lost, folder, version)
        elif self._fault == "experts":
            changed = dict(tensors)
            for part in ("gate_proj", "up_proj", "down_proj"):
                one, two = (f"{self._layer}.experts.{expert}.{part}.weight" for expert in (1, 2))
                changed[one], changed[two] = tensors[two], tensors[one]
            await self._with(changed, folder, version)
        elif self._fault == "published":
            save_file(tensors | {self._layer: tensors[self._layer] + 0.1}, file, metadata={"format": "pt"})
            await self.engine.load_weights(folder, version)
        else:
            await self.engine.load_weights(folder, version)

    async def _with(self, tensors: dict[str, torch.Tensor], folder: str, version: int) -> None:
        """The engine reads something else than what was published."""
        file = Path(folder) / "model.safetensors"
        whole = file.read_bytes()
        save_file(tensors, file, metadata={"format": "pt"})
        await self.engine.load_weights(folder, version)
        file.write_bytes(whole)


@pytest.fixture(scope="module")
def loud_folder(vllm_bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine's model with larger weights: an untrained one says nearly the same whatever is wrong with it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("loud") / "model"
    model = AutoModelForCausalLM.from_pretrained(vllm_bench.folder, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() >= 2 else 1.0)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(vllm_bench.folder).save_pretrained(folder)
    return folder


@pytest.fixture
def run_with(vllm_bench: Bench, loud_folder: Path, tmp_path: Path) -> Iterator[Callable[..., LocalRun]]:
    """Runs the loop around the real engine with a fault, and gives the engine its own weights back afterwards."""

    def go(fault: str, layer: str = "") -> LocalRun:
        pool = Faulty(vllm_bench.engine, fault, layer)
        run = LocalRun(make_config(), tmp_path / "run", loud_folder)
        session: Any = run.session
        session.pool = session.collector._pool = session.sync._pool = session.probe._pool = pool
        progress = PlainProgress("firewall", 0, console=Console(file=io.StringIO()))
        try:
            vllm_bench.call(
                asyncio.wait_for(train(run.config, batch_plan(run.config), session, run.run_dir, progress), 240)
            )
        finally:
            session.sync.close()
            session.metrics.close()
            session.rollouts.close()
        return run

    yield go
    vllm_bench.call(vllm_bench.engine.load_weights(str(vllm_bench.folder), 0))


def test_without_a_fault_the_run_ends_well(run_with: Callable[..., LocalRun]) -> None:
    run = run_with("none")
    assert run.session.state.episode == 3


@pytest.mark.parametrize(
    ("fault", "layer", "error", "cause"),
    [
        ("temperature", "", MismatchError, "those of temperature 0.7, the learner applies 1"),
        ("top_p", "", MismatchError, "top-p is on: the engine samples from a nucleus of 0.6"),
        ("template", "", MismatchError, "template differs: the engine answered prompts without the last 2 tokens"),
        (
            "experts",
            "model.layers.1.mlp",
            WeightSyncError,
            "experts permuted in model.layers.1.mlp (order [0, 2",
        ),
        ("unsynced", "model.layers.0.self_attn.", WeightSyncError, "model.layers.0.self_attn is still the previous"),
        (
            "published",
            "model.layers.1.self_attn.o_proj.weight",
            WeightSyncError,
            "model.layers.1.self_attn differs in the published folder",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_a_fault_is_caught_within_one_episode_and_named(
    run_with: Callable[..., LocalRun], fault: str, layer: str, error: type[SailError], cause: str
) -> None:
    with pytest.raises(error) as caught:
        run_with(fault, layer)
    assert "Likely cause, found by testing for it: " in str(caught.value)
    assert cause in str(caught.value)
