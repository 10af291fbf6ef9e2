"""An engine and the learner's policy on the weights of one toy, with prompts and pictures for both."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sailrl.config.schema import EngineConfig, LoraConfig, ModelConfig, PromptConfig
from sailrl.data.batch import Sample, collate
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor, load_processor
from sailrl.data.template import Template
from sailrl.launch.engines import image_options
from sailrl.learner.model import Policy
from sailrl.learner.vision import Vision
from sailrl.rollout.engine import Request, Sampling
from sailrl.rollout.vllm_engine import VllmEngine
from sailrl.types import Completion, Problem, Prompt

SIZES = [(84, 84), (84, 168), (200, 60), (30, 300)]
"""(height, width) of the pictures."""
MANY = 20
"""Pictures of the longest prompt."""
DATA = PromptConfig(instruction="", max_prompt_tokens=512)
MODEL = ModelConfig(path="toy", dtype="float32")


def picture(number: int) -> bytes:
    """A PNG of noise."""
    noise = np.random.default_rng(number).integers(0, 256, (*SIZES[number], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Bench:
    """A started engine and a policy."""

    folder: Path
    engine: VllmEngine
    policy: Policy
    processor: Processor
    store: ImageStore
    template: Template
    loop: asyncio.Runner

    def new_policy(
        self, folder: Path | None = None, *, frozen: Sequence[str] = (), adapter: LoraConfig | None = None
    ) -> Policy:
        """A policy with the weights of the toy, or of another folder."""
        return new_policy(folder or self.folder, self.processor, self.store, frozen=frozen, adapter=adapter)

    def prompt(self, *pictures: int) -> Prompt:
        """A question about some of the pictures."""
        text = "count" + "<image>higher bar?" * len(pictures)
        return self.template.render(Problem(prompt=text, images=[picture(n) for n in pictures]))

    def prompts(self) -> list[Prompt]:
        """One without pictures, and where the model sees, with one, with two and with the same one twice."""
        seen: list[tuple[int, ...]] = [(), (0,), (2, 1), (1, 1)] if self.processor.image_id is not None else [()]
        return [self.prompt(*pictures) for pictures in seen]

    def engines(self, prompt: Prompt) -> torch.Tensor:
        """[P-1] the prompt's log-probabilities by the engine."""
        return torch.tensor(self.loop.run(self.engine.prompt_logprobs(request(0, prompt))))

    def difference(self, policy: Policy, prompt: Prompt) -> float:
        """The largest between engine and policy, in nats."""
        return float((self.engines(prompt) - torch.tensor(policy.prompt_logprobs(prompt))).abs().max())

    def sample(self, prompts: Sequence[Prompt], *, samples: int = 2, max_tokens: int = 10) -> list[Sample]:
        """Responses of the engine at temperature 1, as the learner gets them; every second one is the better one."""
        stops = self.processor.stop_ids
        sampling = Sampling(samples, 1.0, max_tokens, banned_ids=self.processor.banned_ids, stop_ids=stops)

        async def collect() -> dict[int, list[Completion]]:
            requests = [request(number, prompt) for number, prompt in enumerate(prompts)]
            return {index: done async for index, done in self.engine.generate(requests, sampling, seed=1)}

        drawn = self.loop.run(collect())
        return [
            Sample.of(prompts[index], completion, 1.0 if number % 2 else -0.6)
            for index in sorted(drawn)
            for number, completion in enumerate(drawn[index])
        ]

    def publish(self, policy: Policy, folder: Path, version: int) -> None:
        """Sends the policy's weights to the engine."""
        policy.save(folder)
        self.loop.run(self.engine.load_weights(str(folder), version))


def request(index: int, prompt: Prompt) -> Request:
    """What the engine is asked."""
    return Request(index, prompt.engine_ids, prompt.images, len(prompt.token_ids))


def new_policy(
    folder: Path,
    processor: Processor,
    store: ImageStore,
    *,
    frozen: Sequence[str] = (),
    adapter: LoraConfig | None = None,
) -> Policy:
    """A float32 policy on the model in ``folder``."""
    vision = None if processor.image_id is None else Vision(processor, store)
    return Policy(str(folder), vision=vision, banned_ids=processor.banned_ids, frozen=frozen, adapter=adapter)


def worst(policy: Policy, samples: Sequence[Sample]) -> float:
    """Largest difference from the engine on any sampled token, in nats."""
    rows = [list(samples)] if policy.packs else [[sample] for sample in samples]
    found = 0.0
    for row in rows:
        batch = collate(row)
        with torch.no_grad():
            logp, _ = policy(batch)
        found = max(found, float(((logp - batch.engine_logp) * batch.mask).abs().max()))
    return found


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """Starts an engine on the toy in ``folder``."""
    processor, store = load_processor(MODEL, DATA, str(folder), trained=True), ImageStore(folder.parent / "images")
    engine = VllmEngine(
        str(folder),
        max_tokens=1024 if processor.image_id is None else 2048,
        options={"dtype": "float32", "max_num_seqs": 16, "enforce_eager": True}
        | processor.engine_options
        | image_options(DATA, EngineConfig(images_per_prompt=MANY), processor),
        kv_cache_gib=1.0,
        worker_extension="tests.fakes.careless.CarelessExtension",  # vLLM takes one class in a process
        load_image=store.image,
        crowding=processor.crowding,
    )
    with asyncio.Runner() as loop:
        loop.run(engine.start())
        try:
            template = Template(processor, store, DATA)
            yield Bench(folder, engine, new_policy(folder, processor, store), processor, store, template, loop)
        finally:
            loop.run(engine.stop())
