"""A sick run stops before it learns anything, within its first episode, and says why."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sailrl.errors import MismatchError, WeightSyncError
from sailrl.families.qwen_vl import Qwen3Vl
from sailrl.learner.stale import parameter_group
from sailrl.rl import checkpoints
from sailrl.rl.diagnosis import diagnosis, explain_weights
from sailrl.rollout.engine import Request, Sampling
from sailrl.types import Completion, Prompt
from tests.fakes.local import LocalEngine
from tests.fakes.local_run import LocalRun, make_config
from tests.fakes.tiny_learner import make_prompt

EXPERTS = 4


@pytest.fixture(scope="module")
def moe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny mixture of experts with large weights, so that every fault changes what it says."""
    from transformers import AutoModelForCausalLM

    from sailrl.demo import tiny_text

    folder = tmp_path_factory.mktemp("moe") / "model"
    tiny_text.build(folder, hidden_size=32, layers=2, experts=EXPERTS)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0 if parameter.dim() >= 2 else 1.0)
    model.save_pretrained(folder)
    return folder


class WrongTemperature(LocalEngine):
    """Ignores the configured temperature."""

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        async for item in super().generate(requests, replace(sampling, temperature=0.7), seed=seed):
            yield item


class OtherTemplate(LocalEngine):
    """Leaves out the last two tokens of every prompt, as a template without the turn's opening would."""

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        shorter = [replace(request, token_ids=list(request.token_ids)[:-2]) for request in requests]
        async for item in super().generate(shorter, sampling, seed=seed):
            yield item


class Noisy(LocalEngine):
    """Says log-probabilities that nothing explains."""

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        async for index, group in super().generate(requests, sampling, seed=seed):
            yield index, [replace(one, logprobs=[v - (i + 1) % 2 for i, v in enumerate(one.logprobs)]) for one in group]


class PermutedExperts(LocalEngine):
    """Puts the experts of one layer into another order when it loads."""

    def _load(self, folder: str | Path) -> None:
        super()._load(folder)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if "layers.1.mlp.experts." in name:
                    parameter.copy_(parameter[[0, 3, 2, 1]].clone())


class Forgetful(LocalEngine):
    """Keeps its first attention layer forever."""

    def _load(self, folder: str | Path) -> None:
        old = dict(self.model.state_dict()) if hasattr(self, "model") else {}
        super()._load(folder)
        kept = {n: v for n, v in old.items() if parameter_group(n) == "model.layers.0.self_attn"}
        self.model.load_state_dict(kept, strict=False)


def start(engine: type[LocalEngine], folder: Path, run_dir: Path, **sections: Any) -> LocalRun:
    run = LocalRun(make_config(**sections), run_dir, folder)
    run.pool.engine = engine(folder)
    return run


def why(run: LocalRun, error: type[Exception] = MismatchError) -> str:
    with pytest.raises(error) as caught:
        run.train()
    return str(caught.value)


def test_a_healthy_run_is_left_alone(moe_folder: Path, tmp_path: Path) -> None:
    run = start(LocalEngine, moe_folder, tmp_path, mismatch={"max_abs_dlogp": 1e-2, "max_k3": 1e-4}).train()
    assert run.session.state.episode == 3


def test_a_wrong_temperature_stops_the_first_update_and_is_named(moe_folder: Path, tmp_path: Path) -> None:
    run = start(WrongTemperature, moe_folder, tmp_path)
    before = {n: v.clone() for n, v in run.learners.learner.policy.model.state_dict().items()}
    message = why(run)
    assert re.search(r"mean_abs_dlogp is [\d.e-]+ nats and the first update's limit, sync.probe_tolerance, is", message)
    assert "log-probabilities are those of temperature 0.7, the learner applies 1" in message
    assert run.session.state.step == 0
    after = run.learners.learner.policy.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_another_template_is_named(moe_folder: Path, tmp_path: Path) -> None:
    message = why(start(OtherTemplate, moe_folder, tmp_path))
    assert "template differs: the engine answered prompts without the last 2 tokens" in message


def test_a_mismatch_without_a_known_cause_says_what_was_ruled_out(moe_folder: Path, tmp_path: Path) -> None:
    message = why(start(Noisy, moe_folder, tmp_path))
    assert "No test names the cause. Ruled out: weights, temperature" in message


def test_permuted_experts_are_named_at_the_first_publish(moe_folder: Path, tmp_path: Path) -> None:
    message = why(start(PermutedExperts, moe_folder, tmp_path), WeightSyncError)
    assert "experts permuted in model.layers.1.mlp (order [0, 3, 2, 1])" in message


def test_a_layer_that_was_not_synced_is_named_within_one_episode(moe_folder: Path, tmp_path: Path) -> None:
    run = start(Forgetful, moe_folder, tmp_path)
    message = why(run, WeightSyncError)
    assert "model.layers.0.self_attn is still the previous version" in message
    assert run.session.state.episode == 1


def test_a_configured_threshold_holds_in_every_episode(moe_folder: Path, tmp_path: Path) -> None:
    class Later(LocalEngine):
        """Healthy until its second set of weights."""

        async def generate(
            self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
        ) -> AsyncIterator[tuple[int, list[Completion]]]:
            cooler = replace(sampling, temperature=0.6 if self.version else sampling.temperature)
            async for item in super().generate(requests, cooler, seed=seed):
                yield item

    run = start(Later, moe_folder, tmp_path, mismatch={"max_k3": 1e-3})
    message = why(run)
    assert "mismatch/k3 is" in message
    assert "mismatch.max_k3 is 0.001" in message
    assert "those of temperature 0.6" in message
    assert run.session.state.episode == 2
    assert checkpoints.latest(tmp_path) is None  # the action is to stop


def test_a_pause_saves_the_run_first(moe_folder: Path, tmp_path: Path) -> None:
    run = start(WrongTemperature, moe_folder, tmp_path, mismatch={"action": "pause"})
    assert checkpoints.latest(tmp_path) is None
    message = why(run)
    saved = checkpoints.latest(tmp_path)
    assert saved is not None
    assert f"The run was saved to {saved}." in message


def test_causes_read_as_one_sentence() -> None:
    assert diagnosis(["a", "b"]) == "Likely cause, found by testing for it: a; b."


class SaidOfWeights:
    """A session whose engine disagrees on the probe prompt, and a learner that explains it with ``groups``."""

    processor = SimpleNamespace(family=Qwen3Vl())

    def __init__(self, groups: list[str], theirs: list[float]) -> None:
        self.learners = self.pool = self.probe = self.sync = self
        self.prompts, self.tolerance = [make_prompt([1, 2, 3])], 1e-4
        self.current = self.previous = None
        self._groups, self._theirs = groups, theirs

    def prompt_logprobs(self, prompt: Prompt) -> Any:
        return Both([-1.0, -2.0], [self._theirs])

    def explain_weights(self, *_: Any) -> list[str]:
        return self._groups


class Both(list[float]):
    """The learner's numbers as a list, the engines' to whoever awaits them."""

    def __init__(self, mine: list[float], theirs: list[list[float]]) -> None:
        super().__init__(mine)
        self._theirs = theirs

    def __await__(self) -> Any:
        return self._theirs
        yield


def test_a_vision_tower_that_was_not_synced_is_called_by_its_name() -> None:
    tower = ["model.visual.blocks.0.attn is still the previous version"]
    run: Any = SaidOfWeights(tower, [-1.0, -2.5])
    (cause,) = asyncio.run(explain_weights(run))
    assert cause == (
        "rollout worker 0 computes with other weights: model.visual.blocks.0.attn is still the previous version (the "
        "vision tower was not synced)"
    )


def test_an_engine_that_sees_a_prompt_of_another_length_has_another_template() -> None:
    run: Any = SaidOfWeights([], [-1.0, -2.0, -3.0])
    assert asyncio.run(explain_weights(run)) == ["template differs: rollout worker 0 sees 4 tokens of a prompt of 3"]


def test_equal_weights_have_no_cause() -> None:
    run: Any = SaidOfWeights(["never asked"], [-1.0, -2.0])
    assert asyncio.run(explain_weights(run)) == []
