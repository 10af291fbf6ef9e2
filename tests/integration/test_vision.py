"""Images through a real vLLM engine: it computes what the learner computes, before and after its tower has changed.

One engine serves all tests; one with experts serves them again in the long tests. Both shrink images to six tokens, so
that pixel limits are part of every comparison.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sailrl.config.schema import RlvrConfig
from sailrl.data.batch import Sample, collate
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor, load_processor
from sailrl.data.template import Template
from sailrl.demo import tiny_vlm
from sailrl.errors import RolloutError
from sailrl.launch.engines import image_options
from sailrl.learner.model import Policy
from sailrl.learner.vision import Vision
from sailrl.rollout.engine import Request, Sampling
from sailrl.rollout.vllm_engine import VllmEngine
from sailrl.types import Completion, Frame, Problem, Prompt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

EXACT = 1e-4
"""Nats; float32 on both sides agrees to about 1e-6."""
SIZES = [(84, 84), (56, 84), (30, 200), (3, 90)]
"""(height, width): shrunk to 4 tokens, left at 6, shrunk, and one whose height looks like colour channels."""
PICTURES: list[tuple[int, ...]] = [(), (0,), (1,), (2, 3), (0, 0), (), (3, 1)]
"""Of each prompt: none, one, two, the same one twice."""


@dataclass
class Bench:
    """A started engine and the learner's policy on the same weights, prompts and images."""

    engine: VllmEngine
    policy: Policy
    processor: Processor
    store: ImageStore
    template: Template
    loop: asyncio.Runner

    def prompt(self, *pictures: int) -> Prompt:
        text = "count" + "<image>higher bar?" * len(pictures)
        return self.template.render(Problem(prompt=text, images=[_picture(n) for n in pictures]))

    def engines(self, prompt: Prompt) -> torch.Tensor:
        """[P-1] the prompt's own log-probabilities, as the engine computes them."""
        return torch.tensor(self.loop.run(self.engine.prompt_logprobs(_request(0, prompt))))

    def learners(self, prompt: Prompt) -> torch.Tensor:
        return torch.tensor(self.policy.prompt_logprobs(prompt))

    def difference(self, prompt: Prompt) -> float:
        return float((self.engines(prompt) - self.learners(prompt)).abs().max())

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int | None = 1
    ) -> dict[int, list[Completion]]:
        async def collect() -> dict[int, list[Completion]]:
            requests = [_request(number, prompt) for number, prompt in enumerate(prompts)]
            return {index: done async for index, done in self.engine.generate(requests, sampling, seed=seed)}

        return self.loop.run(collect())

    def publish(self, folder: Path, version: int) -> None:
        self.policy.save(folder)
        self.loop.run(self.engine.load_weights(str(folder), version))


def _request(index: int, prompt: Prompt) -> Request:
    return Request(index, prompt.engine_ids, prompt.images, len(prompt.token_ids))


def _picture(number: int) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (*SIZES[number], 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module", params=["dense", pytest.param("experts", marks=pytest.mark.long)])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("vision") / "model"
    tiny_vlm.build(folder, experts=8 if request.param == "experts" else 0)
    config = RlvrConfig.model_validate(
        {
            "kind": "rlvr",
            "model": {"path": str(folder), "dtype": "float32"},
            "data": {"train": {"path": "x"}, "instruction": "", "max_pixels": 6 * 28 * 28, "max_prompt_tokens": 256},
            "rewards": {"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
        }
    )
    processor, store = load_processor(config.model, config.data, str(folder)), ImageStore(folder.parent / "images")
    engine = VllmEngine(
        str(folder),
        max_tokens=512,
        options={"dtype": "float32", "max_num_seqs": 64, "enforce_eager": True}
        | image_options(config.data, config.rollout.engine, processor),
        kv_cache_gib=1.0,
        worker_extension="tests.fakes.careless.CarelessExtension",
        load_image=store.image,
        crowding=processor.crowding,
    )
    policy = Policy(str(folder), vision=Vision(processor, store), banned_ids=processor.banned_ids, temperature=0.8)
    with asyncio.Runner() as loop:
        loop.run(engine.start())
        yield Bench(engine, policy, processor, store, Template(processor, store, config.data), loop)
        loop.run(engine.stop())


def _worst(policy: Policy, prompts: Sequence[Prompt], sampled: dict[int, list[Completion]]) -> float:
    """Largest difference on any sampled token, all completions in one mixed batch of the learner, in nats."""
    samples = [Sample.of(prompts[index], done, 0.0) for index, all_done in sampled.items() for done in all_done]
    batch = collate(samples)
    with torch.no_grad():
        logp, _ = policy(batch)
    return float(((logp - batch.engine_logp) * batch.mask).abs().max())


@pytest.mark.parametrize("pictures", PICTURES)
def test_engine_and_learner_agree_on_prompts_with_images(bench: Bench, pictures: tuple[int, ...]) -> None:
    assert bench.difference(bench.prompt(*pictures)) < EXACT


def test_engine_and_learner_agree_on_a_prompt_with_a_video_and_an_image(bench: Bench) -> None:
    video = [Frame(_picture(number), number / 2) for number in (0, 1, 3)]
    prompt = bench.template.render(Problem(prompt="<video>like<image>?", images=[_picture(2)], videos=[video]))
    assert len(prompt.images) == 4
    assert bench.difference(prompt) < EXACT


def test_engine_and_learner_agree_on_every_sampled_token_of_a_mixed_wave(bench: Bench) -> None:
    prompts = [bench.prompt(*pictures) for pictures in PICTURES]
    sampling = Sampling(samples=4, temperature=0.8, max_tokens=12, banned_ids=bench.processor.banned_ids)
    sampled = bench.sample(prompts, sampling)
    assert sorted(sampled) == list(range(len(PICTURES)))
    assert _worst(bench.policy, prompts, sampled) < EXACT
    ids = {i for done in sampled.values() for completion in done for i in completion.token_ids}
    assert not ids & set(bench.processor.banned_ids)


def test_the_comparison_sees_the_image(bench: Bench) -> None:
    """Negative control: with other pixels of the same size both sides would differ by far more than the tolerance."""
    prompt = bench.prompt(0)
    noise = Image.fromarray(np.random.default_rng(9).integers(0, 256, (84, 84, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    other = replace(prompt, images=(bench.store.add(buffer.getvalue()),))
    assert (bench.engines(prompt) - bench.learners(other)).abs().max() > 100 * EXACT


def test_marks_of_images_may_be_sampled(bench: Bench) -> None:
    """Only placeholders are banned: a mark without an image moves no position on either side."""
    allowed = [*bench.processor.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"]), 40, 41]
    banned = [i for i in range(len(bench.processor.tokenizer)) if i not in allowed]
    prompts = [bench.prompt(*pictures) for pictures in ((0,), (2, 3), ())]
    sampled = bench.sample(prompts, Sampling(samples=4, temperature=0.8, max_tokens=10, banned_ids=banned))
    ids = {i for done in sampled.values() for completion in done for i in completion.token_ids}
    assert ids == set(allowed)
    folder = bench.policy.model.name_or_path
    policy = Policy(folder, vision=Vision(bench.processor, bench.store), banned_ids=banned, temperature=0.8)
    assert _worst(policy, prompts, sampled) < EXACT


def test_a_seeded_wave_with_images_is_repeatable_bit_for_bit(bench: Bench) -> None:
    prompts = [bench.prompt(*pictures) for pictures in PICTURES]
    sampling = Sampling(samples=2, temperature=1.0, max_tokens=8, banned_ids=bench.processor.banned_ids)

    def wave(seed: int) -> Any:
        sampled = bench.sample(prompts, sampling, seed)
        return [(i, [(list(c.token_ids), list(c.logprobs)) for c in sampled[i]]) for i in sorted(sampled)]

    first = wave(1)
    assert wave(1) == first
    assert wave(2) != first


def _move(policy: Policy, part: str, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if part in name:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))


@pytest.mark.parametrize("part", ["visual.blocks", "visual.merger", "visual.deepstack_merger_list", "language_model"])
def test_after_a_publish_the_engine_looks_with_the_new_tower(bench: Bench, tmp_path: Path, part: str) -> None:
    """The same images as before, under the same names: cached features of the old tower would show."""
    prompts = [bench.prompt(*pictures) for pictures in PICTURES]
    before = [bench.engines(prompt) for prompt in prompts]
    _move(bench.policy, part, seed=len(part))
    bench.publish(tmp_path / "new", 3)
    for prompt, old in zip(prompts, before, strict=True):
        new = bench.engines(prompt)
        assert (new - bench.learners(prompt)).abs().max() < EXACT
        if prompt.images:
            assert (new - old).abs().max() > 10 * EXACT
    sampling = Sampling(samples=2, temperature=0.8, max_tokens=8, banned_ids=bench.processor.banned_ids)
    sampled = bench.sample(prompts, sampling)
    assert _worst(bench.policy, prompts, sampled) < EXACT
    assert {completion.version for done in sampled.values() for completion in done} == {3}


def test_features_of_the_old_tower_would_be_noticed(bench: Bench, tmp_path: Path) -> None:
    """Negative control: the weights are new, the cached features of a known image are not, and the numbers tell."""
    seen, blind = bench.prompt(0), bench.prompt()
    bench.engines(seen)  # now its features lie in the engine's cache
    _move(bench.policy, "visual.", seed=7)
    bench.policy.save(tmp_path / "new")
    llm = bench.engine._llm

    async def careless() -> None:
        await llm.pause_generation(mode="keep", clear_cache=False)
        await llm.collective_rpc("load_weights_and_keep_images", kwargs={"folder": str(tmp_path / "new")})
        await llm.resume_generation()

    bench.loop.run(careless())
    assert bench.difference(blind) < EXACT
    assert bench.difference(seen) > 10 * EXACT
    bench.loop.run(bench.engine.load_weights(str(tmp_path / "new"), 4))
    assert bench.difference(seen) < EXACT


def test_requests_in_flight_survive_a_publish_with_their_images(bench: Bench, tmp_path: Path) -> None:
    """They are computed again with the new weights, which takes the features of their images again."""
    prompts = [bench.prompt(*pictures) for pictures in PICTURES]
    requests = [_request(number, prompt) for number, prompt in enumerate(prompts)]
    end = bench.processor.tokenizer.eos_token_id
    sampling = Sampling(samples=8, temperature=0.8, max_tokens=200, banned_ids=[*bench.processor.banned_ids, end])
    bench.policy.save(tmp_path / "same")

    async def publish_meanwhile() -> dict[int, list[Completion]]:
        async def collect() -> dict[int, list[Completion]]:
            return {index: done async for index, done in bench.engine.generate(requests, sampling, seed=None)}

        collecting = asyncio.ensure_future(collect())
        await asyncio.sleep(0.2)
        assert not collecting.done()
        await bench.engine.load_weights(str(tmp_path / "same"), 5)
        return await collecting

    sampled = bench.loop.run(publish_meanwhile())
    assert all(len(completion.token_ids) == 200 for done in sampled.values() for completion in done)
    folder = bench.policy.model.name_or_path
    policy = Policy(
        folder, vision=Vision(bench.processor, bench.store), banned_ids=sampling.banned_ids, temperature=0.8
    )
    policy.model.load_state_dict(bench.policy.model.state_dict())
    assert _worst(policy, prompts, sampled) < EXACT


def test_an_image_in_shared_blocks_survives_a_publish(bench: Bench, tmp_path: Path) -> None:
    """vLLM gives a request whose image lies in blocks that another one has filled no pixels, and a publish drops the
    blocks."""
    prompt = bench.template.render(Problem(prompt="<image>" + "higher bar? " * 20, images=[_picture(1)]))
    assert len(prompt.token_ids) > 40
    assert bench.processor.image_id in prompt.token_ids[:32]
    assert bench.processor.image_id not in prompt.token_ids[32:]  # blocks have 32 tokens
    end = bench.processor.tokenizer.eos_token_id
    bench.sample([prompt], Sampling(samples=1, temperature=1.0, max_tokens=1))
    bench.policy.save(tmp_path / "same")

    async def publish_meanwhile() -> None:
        sampling = Sampling(samples=4, temperature=1.0, max_tokens=200, banned_ids=[*bench.processor.banned_ids, end])

        async def collect() -> list[int]:
            answers = [done async for _, done in bench.engine.generate([_request(0, prompt)], sampling, seed=None)]
            return [len(completion.token_ids) for done in answers for completion in done]

        collecting = asyncio.ensure_future(collect())
        await asyncio.sleep(0.2)
        assert not collecting.done()
        await bench.engine.load_weights(str(tmp_path / "same"), 6)
        assert await collecting == [200] * 4

    bench.loop.run(publish_meanwhile())


def test_a_prompt_that_is_expanded_already_is_refused_with_both_lengths(bench: Bench) -> None:
    prompt = bench.prompt(1)
    twice = Request(0, prompt.token_ids, prompt.images, len(prompt.token_ids))
    length = len(prompt.token_ids)
    with pytest.raises(
        RolloutError, match=rf"computed a prompt of {length + 5} tokens, the learner would train on {length} "
    ):
        bench.loop.run(bench.engine.prompt_logprobs(twice))


def test_an_engine_with_other_limits_is_caught_at_the_first_prompt(bench: Bench) -> None:
    """What the learner would have without data.max_pixels: 9 tokens for 84 x 84 pixels instead of 4."""
    unlimited = Processor(bench.policy.model.name_or_path)
    prompt = bench.prompt(0)
    longer = unlimited.expand(prompt.engine_ids, [SIZES[0]], "p")
    with pytest.raises(RolloutError, match="Pixel limits or processors differ"):
        bench.loop.run(bench.engine.prompt_logprobs(_request(0, replace(prompt, token_ids=longer))))
