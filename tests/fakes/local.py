"""The loop's parts in one process: a real tiny model that samples and learns, without Ray and vLLM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sailrl.data.batch import Sample
from sailrl.learner.diagnose import Finding
from sailrl.learner.learner import Learner
from sailrl.learner.objective import UpdateScope, with_advantage
from sailrl.rollout.engine import Engine, Request, Sampling, Stage
from sailrl.types import BANNED_LOGIT_BIAS, Completion, Prompt


class LocalEngine:
    """Transformers behind the Engine protocol, sampling without a cache."""

    def __init__(self, folder: str | Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.version = 0
        self._load(folder)

    async def start(self) -> None:
        pass

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        draw = torch.Generator()
        draw.seed() if seed is None else draw.manual_seed(seed)
        for request in requests:
            yield request.index, self._complete(request, sampling, draw)

    async def prompt_logprobs(self, request: Request) -> list[float]:
        ids = torch.tensor([list(request.token_ids)])
        with torch.no_grad():
            logp = self.model(ids).logits.log_softmax(-1)[0, :-1]
        return logp.gather(1, ids[0, 1:, None])[:, 0].tolist()

    async def load_weights(self, folder: str, version: int) -> None:
        self._load(folder)
        self.version = version

    async def sleep(self) -> bool:
        return False  # there is no GPU to lend

    async def wake(self, stage: Stage) -> None:
        pass

    def alive(self) -> bool:
        return True

    async def stop(self) -> None:
        pass

    def _load(self, folder: str | Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.no_grad()
    def _complete(self, request: Request, sampling: Sampling, draw: torch.Generator) -> list[Completion]:
        """All samples of one prompt side by side, without a cache."""
        ids = torch.tensor([list(request.token_ids)] * sampling.samples)
        logprobs = torch.zeros(sampling.samples, 0)
        ended = torch.zeros(sampling.samples, dtype=torch.bool)
        for _ in range(sampling.max_tokens):
            logits = self.model(ids).logits[:, -1]
            logits[:, list(sampling.banned_ids)] += BANNED_LOGIT_BIAS
            logp = (logits / (sampling.temperature or 1.0)).log_softmax(-1)
            chosen = torch.multinomial(logp.exp(), 1, generator=draw) if sampling.temperature else logp.argmax(-1, True)
            ids, logprobs = torch.cat([ids, chosen], 1), torch.cat([logprobs, logp.gather(1, chosen)], 1)
            ended |= torch.isin(chosen[:, 0], torch.tensor(self._ends(sampling)))
            if ended.all():
                break
        new = ids[:, len(request.token_ids) :].tolist()
        ends = self._ends(sampling)
        return [self._completion(row, logp, ends) for row, logp in zip(new, logprobs.tolist(), strict=True)]

    def _ends(self, sampling: Sampling) -> list[int]:
        return [self.tokenizer.eos_token_id, *sampling.stop_ids]

    def _completion(self, ids: list[int], logprobs: list[float], ends: list[int]) -> Completion:
        length = next((place for place, i in enumerate(ids, start=1) if i in ends), len(ids))
        return Completion(
            token_ids=ids[:length],
            logprobs=logprobs[:length],
            text=str(self.tokenizer.decode(ids[:length], skip_special_tokens=True)),
            finish_reason="stop" if ids[length - 1] in ends else "length",
            version=self.version,
        )


class OnePool:
    """One engine as a pool."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        return self.engine.generate(requests, sampling, seed=seed)

    async def prompt_logprobs(self, prompt: Prompt) -> list[list[float]]:
        request = Request(0, prompt.engine_ids, prompt.images, len(prompt.token_ids))
        return [await self.engine.prompt_logprobs(request)]

    async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
        await self.engine.load_weights(folder, version)

    async def sleep(self) -> bool:
        return await self.engine.sleep()

    async def wake(self, stage: Stage) -> None:
        await self.engine.wake(stage)

    def resize(self, count: int) -> None:
        raise NotImplementedError

    def metrics(self) -> dict[str, float]:
        return {"workers/alive": 1.0, "workers/restarts": 0.0}

    async def stop(self) -> None:
        await self.engine.stop()


class LocalLearners:
    """One learner rank, called directly."""

    def __init__(self, learner: Learner, *, takes_all: bool = False) -> None:
        self.learner, self._takes_all = learner, takes_all
        self._samples: Sequence[Sample] = ()

    def set_episode(self, samples: Sequence[Sample], updates: Sequence[Sequence[int]]) -> None:
        self._samples = samples
        self.learner.set_episode(samples)

    def compute_old_logprobs(self) -> None:
        self.learner.compute_old_logprobs()

    def update(self, rows: Sequence[int], *, clip_low: float, clip_high: float) -> dict[str, float]:
        learned = list(rows) if self._takes_all else with_advantage(self._samples, rows)
        scope = UpdateScope.of(self._samples, learned, rows, clip_low=clip_low, clip_high=clip_high)
        return self.learner.update(learned, scope) | {"tokens": float(scope.tokens)}

    def prompt_logprobs(self, prompts: Sequence[Prompt], *, rounded: bool = False) -> list[list[float]]:
        return self.learner.prompt_logprobs(prompts, rounded=rounded)

    def limit_first_update(self, mean_dlogp: float) -> None:
        self.learner.limit_first_update(mean_dlogp)

    def expert_load(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        return self.learner.expert_load(prompts)

    def explain_weights(
        self, prompt: Prompt, engine: Sequence[float], published: str | None, previous: str | None
    ) -> Finding:
        return self.learner.explain_weights(prompt, engine, published, previous)

    def explain_responses(self, samples: Sequence[Sample], engine_prompts: Sequence[Sequence[int]]) -> Finding:
        return self.learner.explain_responses(samples, engine_prompts)

    def export(self, folder: str) -> None:
        self.learner.export(folder)

    def free_memory(self) -> None:
        pass

    def save(self, folder: str) -> None:
        self.learner.save(folder)
