"""A rollout worker as those who deal out work see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from sailrl.errors import WorkerDied
from sailrl.rollout.engine import Request, Sampling, Stage
from sailrl.types import Completion, Prompt

Result = tuple[int, list[Completion]]
Ask = Callable[[Prompt], Awaitable[list[float]]]
Prove = Callable[[int, int, Ask], Awaitable[bool]]
"""``prove(worker, version, prompt_logprobs)``: raises WeightSyncError when the worker does not compute with the weights
of ``version``; False while nothing is known of that version yet."""


class Worker(Protocol):
    """One rollout worker, wherever its engine runs. Every call raises WorkerDied when it is gone or has failed, and
    other errors only where another worker would raise them, too."""

    async def start(self) -> None: ...
    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None
    ) -> AsyncIterator[Result]: ...
    async def prompt_logprobs(self, request: Request) -> list[float]: ...
    async def load_weights(self, folder: str, version: int) -> None: ...
    async def freeze(self) -> None: ...
    async def thaw(self, version: int) -> None: ...
    async def sleep(self) -> bool: ...
    async def wake(self, stage: Stage) -> None: ...
    async def stop(self) -> None: ...
    def kill(self) -> None:
        """Ends it at once, whatever state it is in; a second call does nothing."""


W = TypeVar("W", bound=Worker)


@dataclass(slots=True, eq=False)
class Member(Generic[W]):
    """A worker and what it is doing."""

    number: int
    worker: W
    ready: bool = False
    load: int = 0
    """Responses it samples now."""
    added: bool = False
    """It came by ``resize`` and was never at work; nobody counts on it."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is ready, and when it never will be again."""


def whole(prompt: Prompt) -> Request:
    """The request for a prompt's own log-probabilities."""
    return Request(0, prompt.engine_ids, prompt.images, len(prompt.token_ids))


@asynccontextmanager
async def deadline(what: str, timeout_s: float, setting: str = "") -> AsyncIterator[None]:
    """What takes longer is the death of the worker that is waited for."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        named = f" ({setting})" if setting else ""
        raise WorkerDied(f"it did not finish {what} within {timeout_s:g} s{named}") from None


def keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    """Begins ``work``, and holds it in ``tasks`` until it is done."""
    task = asyncio.ensure_future(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
