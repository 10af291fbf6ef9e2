"""The contract of a family: engine, learner and processor read, compute and change one and the same model.

Every toy passes all of it. Two are checked with every change; the others are marked long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sailrl.config.learner import LearnerConfig
from sailrl.config.losses import Dapo, MismatchConfig
from sailrl.config.schema import LoraConfig
from sailrl.data.alignment import compare
from sailrl.data.batch import Sample, collate
from sailrl.data.processor import Processor
from sailrl.data.reference import Reference
from sailrl.families import FAMILIES
from sailrl.families.base import Picture
from sailrl.families.sail_vl2.family import SailVl2
from sailrl.learner.inventory import check_tensors
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective, UpdateScope
from sailrl.learner.shape import model_shape
from sailrl.learner.vision import Vision
from tests.fakes.family_bench import MANY, Bench, open_bench, worst
from tests.fakes.family_toys import SECOND_END, TOYS, build_toy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXACT = 1e-4
"""Nats, in float32 on both sides."""
LONG = [pytest.param(name, marks=[] if toy.in_ci else pytest.mark.long) for name, toy in TOYS.items()]


@pytest.fixture(scope="module", params=LONG)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    pytest.importorskip("vllm")
    with open_bench(build_toy(request.param, tmp_path_factory.mktemp("family") / "model")) as opened:
        yield opened


def test_every_family_has_a_toy() -> None:
    assert {toy.family for toy in TOYS.values()} == {family.title for family in FAMILIES}


def test_processor_engine_and_learner_read_the_same_ids_and_positions(bench: Bench) -> None:
    if bench.processor.image_id is None:
        pytest.skip("a model of text has no ids to expand")
    from sailrl.rollout.vllm_prompts import VllmPrompts

    options: dict[str, Any] = {"dtype": "float32", "limit_mm_per_prompt": {"image": 8, "video": 0}}
    engine = VllmPrompts(str(bench.folder), options | bench.processor.engine_options, bench.processor.crowding)
    reference = Reference(bench.folder, bench.processor)
    for prompt in bench.prompts():
        images = [bench.store.image(digest) for digest in prompt.images]
        text = bench.template.text(prompt.problem)
        views = [reference.learner(prompt.token_ids, images), reference.transformers(text, images)]
        views += [engine.view(prompt.engine_ids, images)]
        assert [compare(views[0], other) for other in views[1:]] == [None, None]
        assert len(views[0].counts) == len(prompt.images)


def test_engine_and_learner_give_the_same_log_probabilities(bench: Bench) -> None:
    assert max(bench.difference(bench.policy, prompt) for prompt in bench.prompts()) < EXACT
    assert worst(bench.policy, bench.sample(bench.prompts())) < EXACT


def test_many_pictures_in_one_prompt_are_as_large_for_the_engine_as_for_the_learner(bench: Bench) -> None:
    """Some families give each picture fewer pixels then; alone the same picture has its usual size on both sides."""
    if bench.processor.image_id is None:
        pytest.skip("a model of text sees no picture")
    for prompt in (bench.prompt(*[3] * MANY), bench.prompt(3)):
        assert bench.difference(bench.policy, prompt) < EXACT


def test_the_comparison_sees_which_picture_it_is(bench: Bench) -> None:
    """Negative control: on another picture of the same size both sides would differ."""
    if bench.processor.image_id is None:
        pytest.skip("a model of text sees no picture")
    prompt = bench.prompt(0)
    black = bench.store.image(prompt.images[0]).point(lambda value: value // 8)
    other = replace(prompt, images=(bench.store.add(_png(black)),))
    mine = torch.tensor(bench.policy.prompt_logprobs(other))
    assert (bench.engines(prompt) - mine).abs().max() > 100 * EXACT


def test_what_the_checkpoint_says_about_sampling_changes_nothing_but_what_ends_a_turn(bench: Bench) -> None:
    """Its generation_config.json wants the likeliest token only (``top_k`` 1), and names a second id that ends a turn.
    With it every response to a prompt would be the same, of log-probability 0."""
    assert SECOND_END in bench.processor.stop_ids
    samples = bench.sample(bench.prompts()[:1], samples=16, max_tokens=40)
    assert len({sample.response_ids.tobytes() for sample in samples}) > 8
    assert worst(bench.policy, samples) < EXACT
    ends = set(bench.processor.stop_ids)
    for sample in samples:
        said = sample.response_ids.tolist()
        assert not ends & set(said[:-1])
        assert said[-1] in ends or len(said) == 40


@pytest.mark.parametrize("fault", ["order of tiles", "unshuffle", "last norm"])
def test_a_learner_with_a_fault_in_its_tower_would_differ(bench: Bench, fault: str) -> None:
    """Negative controls of SAIL-VL2's own code."""
    if bench.processor.family.title != SailVl2.title:
        pytest.skip("about the one family whose model is written here")
    policy, prompt = bench.new_policy(), bench.prompt(1)  # two tiles and a thumbnail
    tower = policy.model.model
    if fault == "order of tiles":
        policy._vision = Vision(Reversed(bench.folder), bench.store)
    elif fault == "unshuffle":
        tower.mlp1[0] = torch.nn.Sequential(ColumnsFirst(), tower.mlp1[0])
    else:
        tower.vision_model.trunk.post_trunk_norm = torch.nn.Identity()
    assert bench.difference(bench.policy, prompt) < EXACT
    assert bench.difference(policy, prompt) > 100 * EXACT


class Reversed(Processor):
    """Gives the tiles of a picture in the opposite order."""

    def pixels(self, images: Sequence[Any], *, of: int | None = None) -> list[Picture]:
        return [(tiles.flip(0), layout) for tiles, layout in super().pixels(images, of=of)]


class ColumnsFirst(torch.nn.Module):
    """Turns the patches of every token so that its columns come one after the other."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(-1, (2, 2, -1)).transpose(-3, -2).flatten(-3)


def test_samples_in_one_row_have_the_log_probabilities_that_they_have_alone(bench: Bench) -> None:
    samples = bench.sample(bench.prompts())
    if not bench.policy.packs:
        pytest.skip("this family is given one sample at a time")
    with torch.no_grad():
        packed = bench.policy(collate(samples))[0]
        for row, sample in zip(packed, samples, strict=True):
            alone = bench.policy(collate([sample]))[0][0]
            assert torch.allclose(row[: len(alone)], alone, atol=1e-5)


@pytest.mark.parametrize("part", ["vision", "projector", "language_model"])
def test_after_a_publish_the_engine_computes_with_every_changed_part(bench: Bench, tmp_path: Path, part: str) -> None:
    """The same pictures as before: cached features of an old tower would show."""
    names = [name for name, _ in bench.policy.model.named_parameters() if bench.processor.family.part(name) == part]
    if not names:
        pytest.skip(f"a model of text has no {part}")
    prompts = bench.prompts()
    before = [bench.engines(prompt) for prompt in prompts]
    policy = bench.new_policy()
    _move(policy, names)
    bench.publish(policy, tmp_path / "new", 3)
    for prompt, old in zip(prompts, before, strict=True):
        assert bench.difference(policy, prompt) < EXACT
        if prompt.images or part == "language_model":
            assert (bench.engines(prompt) - old).abs().max() > 10 * EXACT
    bench.publish(bench.policy, tmp_path / "back", 4)
    assert max(bench.difference(bench.policy, prompt) for prompt in prompts) < EXACT


def test_what_is_saved_is_loaded_again(bench: Bench, tmp_path: Path) -> None:
    bench.policy.save(tmp_path / "saved")
    bench.processor.save(tmp_path / "saved")
    check_tensors(tmp_path / "saved", like=bench.folder)
    again = bench.new_policy(tmp_path / "saved")
    mine, theirs = bench.policy.plain_state(), again.plain_state()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    prompt = bench.prompts()[-1]
    assert again.prompt_logprobs(prompt) == bench.policy.prompt_logprobs(prompt)


@pytest.mark.parametrize("part", ["vision", "projector", "language_model"])
def test_what_is_frozen_stays_as_it_is_and_everything_else_learns(bench: Bench, part: str) -> None:
    family = bench.processor.family
    policy = bench.new_policy(frozen=[part])
    if not any(family.part(name) != part for name, _ in policy.model.named_parameters()):
        pytest.skip("there would be nothing left to train")
    before = policy.plain_state()
    before = {name: tensor.clone() for name, tensor in before.items()}
    _learn(policy, bench.sample(bench.prompts()))
    changed = {name for name, tensor in policy.plain_state().items() if not torch.equal(tensor, before[name])}
    trained = {name for name, parameter in policy.model.named_parameters(remove_duplicate=False)
               if family.part(name) != part}  # fmt: skip
    assert changed == trained


def test_an_adapter_reaches_the_engine(bench: Bench, tmp_path: Path) -> None:
    linear = {
        name.rpartition(".")[2]
        for name, module in bench.policy.model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    wanted = tuple(name for name in LoraConfig().target_modules if name in linear)
    policy = bench.new_policy(adapter=LoraConfig(rank=4, target_modules=wanted))
    adapted = [name for name, parameter in policy.model.named_parameters() if parameter.requires_grad]
    assert adapted
    assert all("lora" in name and bench.processor.family.part(name) == "language_model" for name in adapted)
    _move(policy, adapted)
    bench.publish(policy, tmp_path / "merged", 5)
    try:
        prompt = bench.prompts()[-1]
        assert bench.difference(policy, prompt) < EXACT
        assert bench.difference(bench.policy, prompt) > 10 * EXACT
    finally:
        bench.publish(bench.policy, tmp_path / "back", 6)


def test_the_memory_plan_counts_every_parameter_in_its_part(bench: Bench) -> None:
    shape, family = model_shape(bench.folder), bench.processor.family
    parameters = list(bench.policy.model.named_parameters())
    assert shape.parameters == sum(parameter.numel() for _, parameter in parameters)
    tower = sum(parameter.numel() for name, parameter in parameters if family.part(name) == "vision")
    assert (shape.tower, shape.vision is not None) == (tower, family.sees)


def test_two_updates_and_a_supervised_step_reach_the_engine(bench: Bench, tmp_path: Path) -> None:
    policy, samples = bench.new_policy(), bench.sample(bench.prompts())
    for _ in range(2):
        metrics = _learn(policy, samples)
        assert metrics["grad_norm"] > 0
    logp, _ = policy(collate(samples[:1]))
    (-logp.sum()).backward()
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-3 * parameter.grad)
    bench.publish(policy, tmp_path / "learned", 7)
    try:
        assert max(bench.difference(policy, prompt) for prompt in bench.prompts()) < EXACT
        assert bench.difference(bench.policy, bench.prompts()[-1]) > EXACT
    finally:
        bench.publish(bench.policy, tmp_path / "back", 8)


def _png(image: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _move(policy: Policy, names: list[str]) -> None:
    draw, parameters = torch.Generator().manual_seed(1), dict(policy.model.named_parameters())
    with torch.no_grad():
        for name in names:
            parameters[name].add_(0.05 * torch.randn(parameters[name].shape, generator=draw))


def _learn(policy: Policy, samples: list[Sample]) -> dict[str, float]:
    section = LearnerConfig(learning_rate=1e-3, max_tokens_per_microbatch=512)
    learner = Learner(policy, Objective(Dapo(), MismatchConfig(), max_response_tokens=12), section)
    learner.set_episode(samples)
    scope = UpdateScope(sum(len(sample.response_ids) for sample in samples), len(samples), 0.2, 0.28)
    return learner.update(list(range(len(samples))), scope)
