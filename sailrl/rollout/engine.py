"""What sailrl needs of an inference engine. ``vllm_engine`` is one; unit tests use a scripted one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sailrl.config.schema import SamplingConfig
from sailrl.types import Completion, Prompt

if TYPE_CHECKING:
    from sailrl.data.processor import Processor  # loads torch

Stage = Literal["weights", "kv_cache"]
"""The two stages of waking up, in this order. New weights are loaded between them, before the cache takes memory."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are drawn. The learner applies the same temperature and the same banned ids."""

    samples: int
    """Responses per prompt."""
    temperature: float
    """0 is greedy."""
    max_tokens: int
    """Longest response."""
    top_p: float = 1.0
    top_k: int | None = None
    banned_ids: Sequence[int] = ()
    """Ids that may never be sampled (image and video placeholders)."""
    stop_ids: Sequence[int] = ()
    """Ids that end a response and are its last token, in addition to those in the model's own files."""

    @classmethod
    def of(
        cls, config: SamplingConfig, samples: int, processor: Processor, *, temperature: float | None = None
    ) -> Sampling:
        """The configured sampling.

        Args:
            temperature: for an evaluation, in place of the configured one.
        """
        return cls(
            samples=samples,
            temperature=config.temperature if temperature is None else temperature,
            max_tokens=config.max_response_tokens,
            top_p=config.top_p,
            top_k=config.top_k,
            banned_ids=processor.banned_ids,
            stop_ids=processor.stop_ids,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt for the engine. ``index`` is chosen by the caller and returned with the completions."""

    index: int
    token_ids: Sequence[int]
    """[P'] with one placeholder per image."""
    images: Sequence[str] = ()
    """Content hashes into the image store."""
    expanded: int | None = None
    """Length of the prompt with all placeholders of its images, as the learner trains on it; None without images."""


class Engine(Protocol):
    """One model replica that turns prompts into completions. All methods are coroutines on the engine's own loop."""

    async def start(self) -> None:
        """Loads the model. Raises RolloutError with the engine's own message when it cannot."""

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        """Yields ``(index, completions)`` as prompts finish. A seed makes the call a *wave*: nothing else may run, the
        same requests in the same order with the same weights give the same tokens, bit for bit."""

    async def prompt_logprobs(self, request: Request) -> list[float]:
        """[P-1] log-probabilities in nats, before temperature, of every prompt token but the first."""

    async def load_weights(self, folder: str, version: int) -> None:
        """Loads the weights exported into ``folder`` and drops every cache computed with the old ones."""

    async def sleep(self) -> bool:
        """Frees its GPU memory until ``wake`` was called for both stages; no request may be in flight. Returns False
        when the engine cannot: then it keeps its memory, and ``sleep`` and ``wake`` do nothing."""

    async def wake(self, stage: Stage) -> None:
        """Takes memory back: in the first stage for the weights it had, in the second for its cache."""

    def alive(self) -> bool:
        """False once one of its processes has died: calls then never return."""

    async def stop(self) -> None:
        """Frees all resources; the engine cannot be used afterwards."""


class DirectEngine(Engine, Protocol):
    """An engine that can also be sent weights without a folder (``sync.method`` nccl and ipc)."""

    async def freeze(self) -> None:
        """Stops computing until ``thaw``, keeps its requests and drops every cache computed with the weights."""

    async def transfer(self, step: str, payload: Any) -> None:
        """One step of an update, called by the learner's side; see ``sync.transfer.EngineClient``."""

    async def thaw(self, version: int) -> None:
        """Continues with the weights it has now, as ``version``."""


class Pool(Protocol):
    """Several engines as one; ``rollout.pool.RolloutPool`` runs them in Ray actors."""

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        """Yields ``(index, completions)`` as prompts finish, from any engine."""

    async def prompt_logprobs(self, prompt: Prompt) -> list[list[float]]:
        """[engines][P-1] log-probabilities in nats of the prompt's own tokens but the first."""

    async def load_weights(self, folder: str, version: int, *, timeout_s: float) -> None:
        """Every engine loads the weights exported into ``folder``."""

    async def sleep(self) -> bool:
        """Every engine frees its GPU memory; False when they cannot."""

    async def wake(self, stage: Stage) -> None:
        """Every engine takes the memory of one stage back."""

    def resize(self, count: int) -> None:
        """Changes the number of engines; new ones get work as soon as they are ready."""

    def metrics(self) -> dict[str, float]:
        """``workers/alive`` and ``workers/restarts``."""

    async def stop(self) -> None:
        """Ends all engines."""
