"""A real vLLM engine keeps the contract of engines, and a publish that it only half takes is caught and named.

vLLM on CPU keeps re-laid-out copies of some weights. Its own ``reload_weights`` leaves them stale without an error:
the output layer's when embeddings are tied, and the experts'. The engine here has both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sailrl.rollout.vllm_engine import VllmEngine
from sailrl.sync.disk import DiskSync
from sailrl.sync.probe import Disagreement, Probe
from tests.contract.engine_suite import EXACT, Bench, EngineContract
from tests.fakes.local import LocalLearners, OnePool
from tests.fakes.tiny_learner import make_learner, make_prompt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PROMPTS = [make_prompt(range(20, 60)), make_prompt(range(100, 130))]


class TestVllmEngine(EngineContract):
    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest) -> Bench:
        return request.getfixturevalue("vllm_bench")


class WithoutHead(OnePool):
    """Loads weights without the repair of the output layer's packed copy."""

    left_out = "head"

    async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
        engine = self.engine
        assert isinstance(engine, VllmEngine)
        await engine._llm.pause_generation(mode="keep", clear_cache=True)
        kwargs = {"folder": folder, "left_out": self.left_out}
        await engine._llm.collective_rpc("careless_load_weights", kwargs=kwargs)
        await engine._llm.resume_generation()


class WithoutExperts(WithoutHead):
    """Loads weights without the repair of the experts' packed copies."""

    left_out = "experts"


class Publisher:
    """A learner, the engine behind a pool, and the way between them."""

    def __init__(self, bench: Bench, pool: OnePool) -> None:
        self.bench, self.pool = bench, pool
        self.learners = LocalLearners(make_learner(bench.folder))
        self.sync = DiskSync(self.learners, pool, timeout_s=60)
        self.probe = Probe(self.learners, pool, PROMPTS, dtype="float32", tolerance=EXACT)

    def move(self, part: str = "") -> None:
        """Changes all parameters of the learner with ``part`` in their name."""
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in self.learners.learner.policy.model.named_parameters():
                if part in name:
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))

    def publish(self, version: int) -> float:
        self.bench.call(self.sync.publish(version))
        return self.bench.call(self.probe.check(version)).max

    def causes(self, version: int) -> tuple[str, ...]:
        """What a publish that is refused is put down to."""
        with pytest.raises(Disagreement) as caught:
            self.publish(version)
        error, folders = caught.value, (str(self.sync.current), str(self.sync.previous))
        return self.learners.explain_weights(error.prompt, error.theirs, *folders).causes


@pytest.fixture
def publisher(vllm_bench: Bench) -> Iterator[Any]:
    """Makes publishers, and gives the engine its own weights back afterwards."""
    made: list[Publisher] = []

    def make(pool: type[OnePool] = OnePool) -> Publisher:
        made.append(Publisher(vllm_bench, pool(vllm_bench.engine)))
        return made[-1]

    yield make
    for one in made:
        one.sync.close()
    vllm_bench.call(vllm_bench.engine.load_weights(str(vllm_bench.folder), 0))


@pytest.mark.parametrize("part", ["", "embed_tokens", "experts", "self_attn", "norm"])
def test_every_kind_of_parameter_arrives(publisher: Any, part: str) -> None:
    one = publisher()
    assert one.publish(0) < EXACT
    for version in (1, 2):  # some copies are rebuilt on the first load only
        one.move(part)
        assert one.publish(version) < EXACT


def test_without_the_repair_of_its_packed_copy_a_stale_output_layer_is_caught_and_named(publisher: Any) -> None:
    careful, careless = publisher(), publisher(WithoutHead)
    careful.publish(0)
    assert careless.publish(0) < EXACT  # the same weights again: what is stale is still right
    careless.move()
    assert careless.causes(1) == ("lm_head is still the previous version",)


def test_without_the_repair_of_their_packed_copies_broken_experts_are_caught(publisher: Any) -> None:
    """The memory of the packed experts is overwritten in another layout: they are not old, but garbled."""
    careful, careless = publisher(), publisher(WithoutExperts)
    careful.publish(0)
    careless.move()
    with pytest.raises(Disagreement, match="does not compute what the learner does with version 0"):
        careless.publish(0)


def test_a_layer_that_stays_behind_is_caught_and_named(publisher: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    class Forgetful(OnePool):
        """The weights of one layer get lost on the way."""

        async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
            file = Path(folder) / "model.safetensors"
            tensors = load_file(file)
            if (tmp_path / "old").exists():
                old = load_file(tmp_path / "old")
                lost = {n: v for n, v in old.items() if n.startswith("model.layers.1.self_attn.")}
                assert lost
                save_file(tensors | lost, file, metadata={"format": "pt"})
            else:
                save_file(tensors, tmp_path / "old")
            await super().load_weights(folder, version, timeout_s=timeout_s)

    one = publisher(Forgetful)
    assert one.publish(0) < EXACT
    one.move()
    assert one.causes(1) == ("model.layers.1.self_attn differs in the published folder",)
