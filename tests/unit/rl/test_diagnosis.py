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
from sailrl.learner.diagnose import Finding
from sailrl.learner.stale import parameter_group
from sailrl.rl import checkpoints
from sailrl.rl.diagnosis import explained
from sailrl.rollout.engine import Request, Sampling
from sailrl.sync.probe import Disagreement
from sailrl.types import Completion
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
    assert re.search(r"mean_abs_dlogp is [\d.e-]+ nats and the first update's limit, .* is", message)
    assert "log-probabilities are those of temperature 0.7, the learner applies 1" in message
    assert run.session.state.step == 0
    after = run.learners.learner.policy.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_another_template_is_named(moe_folder: Path, tmp_path: Path) -> None:
    message = why(start(OtherTemplate, moe_folder, tmp_path))
    assert "template differs: the engine answered prompts without the last 2 tokens" in message


def test_a_mismatch_without_a_known_cause_says_what_was_ruled_out(moe_folder: Path, tmp_path: Path) -> None:
    message = why(start(Noisy, moe_folder, tmp_path))
    assert "The engines agree with the learner on fixed prompts, so it is not the weights." in message
    assert "No test names the cause: tests of another temperature, top-p and top-k, and of prompts" in message


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


class RoundsOtherwise(LocalEngine):
    """Has the right weights, and log-probabilities of prompts that are a little off."""

    async def prompt_logprobs(self, request: Request) -> list[float]:
        return [value + 4e-4 * (-1) ** place for place, value in enumerate(await super().prompt_logprobs(request))]


def test_the_right_weights_and_a_small_difference_are_rounding_most_likely(moe_folder: Path, tmp_path: Path) -> None:
    run = start(RoundsOtherwise, moe_folder, tmp_path)
    message = why(run, WeightSyncError)
    assert "differ by 0.0004 nats on average" in message
    assert "No test names the cause" in message
    assert "The published folder holds the learner's weights byte for byte. Rounding, most likely" in message
    assert "Likely cause" not in message
    said = run.output.getvalue()
    assert "looking for the cause, with at most 128 forward passes in 60 s" in said.replace("\n", " ")


class Apart:
    """A session whose engine was found to disagree, and a learner whose search ends with ``finding``."""

    def __init__(self, finding: Finding) -> None:
        self.learners = self.sync = self
        self.processor = SimpleNamespace(family=Qwen3Vl())
        self.current = self.previous = None
        self.said: list[str] = []
        self.say = self.said.append
        self._finding = finding

    def explain_weights(self, *_: Any) -> Finding:
        return self._finding


def text(finding: Finding, *, close: bool = True) -> str:
    error = Disagreement("apart")
    error.prompt, error.theirs, error.worker, error.close = make_prompt([1, 2, 3]), [-1.0, -2.0], 4, close
    run: Any = Apart(finding)
    return asyncio.run(explained(run, error))


def test_a_vision_tower_that_was_not_synced_is_called_by_its_name() -> None:
    assert text(Finding(("model.visual.blocks.0.attn is still the previous version", "b"))) == (
        "Likely cause, found by testing for it: rollout worker 4 computes with other weights: "
        "model.visual.blocks.0.attn is still the previous version (the vision tower was not synced), b."
    )


def test_of_many_groups_a_few_are_named_and_the_rest_counted() -> None:
    said = text(Finding(tuple(f"layer {n} is old" for n in range(122))))
    assert said.endswith("layer 4 is old, layer 5 is old, and 116 more.")


def test_a_large_difference_is_not_called_rounding_although_the_bytes_are_the_same() -> None:
    assert "Rounding" in text(Finding(same_bytes=True))
    said = text(Finding(same_bytes=True), close=False)
    assert "Rounding" not in said
    assert "byte for byte. What is left is how the engine computes: its precision, its kernels" in said


def test_weights_that_left_no_folder_are_not_called_the_same() -> None:
    said = text(Finding())
    assert "byte for byte" not in said
    assert "Rounding" not in said
    assert "sync.method=disk" in said


def test_a_search_that_ran_out_of_passes_says_so_and_names_nothing() -> None:
    said = text(Finding(same_bytes=True, passes=17, complete=False))
    assert said.startswith("The search ended after 17 forward passes without a cause: tests with older weights")
    assert "Likely cause" not in said
