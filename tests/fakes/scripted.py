"""A pool that answers from a script, and rewards that read the answer: collection without a model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from sailrl.rollout.engine import Request, Sampling, Stage
from sailrl.types import Completion, Problem, Prompt, Rollout, Score

Script = Callable[[int, int], str]
"""``(problem, how often it was asked before) -> outcomes``, one letter per response: ``+`` right, ``-`` wrong,
``h`` half right, ``?`` cannot be scored."""


def prompts(count: int) -> list[Prompt]:
    """Prompt ``i`` is the single id ``i``."""
    return [Prompt(Problem(prompt=str(i), id=str(i)), token_ids=[i], engine_ids=[i]) for i in range(count)]


class ScriptedPool:
    """One engine. Groups finish in the opposite order of their requests, as they well may."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.asked: dict[int, int] = {}
        self.waves: list[list[int]] = []
        self.seeds: list[int | None] = []

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        self.waves.append([request.token_ids[0] for request in requests])
        self.seeds.append(seed)
        for request in reversed(requests):
            problem = request.token_ids[0]
            outcomes = self._script(problem, self.asked.get(problem, 0))
            self.asked[problem] = self.asked.get(problem, 0) + 1
            assert len(outcomes) == sampling.samples
            yield request.index, [Completion([1], [-0.5], text, "stop", version=0) for text in outcomes]

    async def prompt_logprobs(self, prompt: Prompt) -> list[list[float]]:
        raise NotImplementedError

    async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
        raise NotImplementedError

    async def sleep(self) -> bool:
        raise NotImplementedError

    async def wake(self, stage: Stage) -> None:
        raise NotImplementedError

    def resize(self, count: int) -> None:
        raise NotImplementedError

    def metrics(self) -> dict[str, float]:
        return {"workers/alive": 1.0, "workers/restarts": 0.0}

    async def stop(self) -> None:
        pass


async def score(prompt: Prompt, completion: Completion) -> Rollout:
    """Accuracy as the script says; the reward adds a bonus, as a shaped one would."""
    if completion.text == "?":
        return Rollout(completion, {"boxed": Score(None, "timed_out", "deadline")}, None, "deadline")
    value = {"+": 1.0, "-": 0.0, "h": 0.5}[completion.text]
    return Rollout(completion, {"boxed": Score(value)}, value + 0.1 * (prompt.token_ids[0] % 2))
