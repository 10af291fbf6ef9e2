"""Asks an LVM judge over an OpenAI-compatible endpoint, and handles the failures of endpoints.

One client per endpoint and settings, shared by all rewards of a process: bounded concurrency, retries within a
deadline, a circuit breaker, one call for identical questions, a cache, and counts of all of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rewards.judge_api.breaker import Breaker
from rewards.judge_api.cache import VerdictCache
from rewards.judge_api.http import Reply, RequestFailed, post_chat
from rewards.judge_api.images import JudgeImage
from rewards.judge_api.metrics import JudgeMetrics
from rewards.judge_api.settings import JudgeSettings
from rewards.judge_api.verdict import READER, Verdict, parse_verdict, verdict_schema
from sailrl.types import Score

if TYPE_CHECKING:
    import ssl

    import httpx

_REMINDER = (
    "Your last reply could not be read. Reply with that one JSON object: no reasoning, no code fence, no comment."
)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One question to a judge, ready to be sent."""

    system: str
    text: str
    verdict: tuple[str, ...]
    """Names of the booleans that make up the answer."""
    images: tuple[JudgeImage, ...] = ()
    texts: tuple[str, ...] = ()
    """Names of the texts in the answer."""

    def messages(self, *, reminded: bool = False) -> list[dict[str, Any]]:
        """The chat messages. The images come first: they and the question are what the responses of a group share."""
        text = f"{self.text}\n\n{_REMINDER}" if reminded else self.text
        content: Any = text
        if self.images:
            shown = [{"type": "image_url", "image_url": {"url": image.data_url()}} for image in self.images]
            content = [*shown, {"type": "text", "text": text}]
        return [{"role": "system", "content": self.system}, {"role": "user", "content": content}]

    def key(self, settings: JudgeSettings) -> str:
        """Hash of everything that decides the verdict, including the code that reads the reply. Where the model is
        served (host, key, time limits) is left out, so a cache stays valid when the port changes."""
        decisive = {
            "model": settings.model,
            "temperature": settings.temperature,
            "max_verdict_tokens": settings.max_verdict_tokens,
            "extra_body": settings.extra_body,
            "system": self.system,
            "text": self.text,
            "images": [image.digest for image in self.images],
            "verdict": self.verdict,
            "texts": self.texts,
            "reader": READER,
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why there is no verdict, in a fixed word."""

    reason: str
    status: Literal["unscorable", "failed", "timed_out"] = "failed"

    def score(self) -> Score:
        """The score of a response that the judge gave no verdict on."""
        return Score(None, self.status, self.reason)


@dataclass(slots=True)
class _Flight:
    """A question that was sent, and how many callers wait for its answer."""

    task: asyncio.Task[Verdict | Unanswered]
    waiting: int = 0


@dataclass(slots=True)
class _LoopState:
    """What belongs to one event loop: connections and locks cannot move to another.

    Each slot has an HTTP client with a single connection. One client with a pool of them would do the same, but httpx
    walks through its whole pool for every request.
    """

    slots: asyncio.Semaphore
    verify: ssl.SSLContext | bool
    flights: dict[str, _Flight] = field(default_factory=dict)
    connections: list[httpx.AsyncClient] = field(default_factory=list)
    idle: list[httpx.AsyncClient] = field(default_factory=list)
    """Those of ``connections`` that no request is using; the last one used is the first to be used again."""


class JudgeClient:
    """A client of one endpoint; see the module. Use it from one event loop at a time, and get it from ``shared``."""

    def __init__(self, settings: JudgeSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._cache = VerdictCache(settings.cache_dir)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_cooldown_s, clock)
        self._metrics = JudgeMetrics()
        self._schema: Literal["untried", "works", "refused"] = "untried"
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState] = weakref.WeakKeyDictionary()

    @staticmethod
    def shared(settings: JudgeSettings) -> JudgeClient:
        """The client of this process for these settings: rewards that ask the same endpoint share its limits, its
        breaker and its cache."""
        with _SHARED_LOCK:
            client = _SHARED.get(settings.key())
            if client is None:
                client = _SHARED[settings.key()] = JudgeClient(settings)
            return client

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its settings; in another process it becomes the shared client of that process."""
        return JudgeClient.shared, (self.settings,)

    def __repr__(self) -> str:
        return f"JudgeClient(base_url={self.settings.base_url!r}, model={self.settings.model!r})"

    async def ask(self, inquiry: Inquiry) -> Verdict | Unanswered:
        """Returns the verdict on an inquiry, or why there is none. Failures of the endpoint are returned, not
        raised."""
        self._metrics.count("calls")
        key = inquiry.key(self.settings)
        known = self._cache.recall(key)
        if known is not None:
            self._metrics.count("cache_hits")
            return known
        state = self._state()
        flight = state.flights.get(key)
        if flight is None:
            flight = state.flights[key] = _Flight(asyncio.create_task(self._answer(state, key, inquiry)))
        else:
            self._metrics.count("deduplicated")
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)  # a caller that is cancelled must not cancel it for others
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                if state.flights.get(key) is flight:
                    del state.flights[key]
                flight.task.cancel()  # of no effect on a task that is done

    def metrics(self) -> dict[str, float]:
        """Counts and tokens since the start, latencies and queue times of the recent past."""
        return {
            **self._metrics.snapshot(),
            "breaker_opened": float(self._breaker.times_opened),
            "breaker_open": float(self._breaker.is_open),
            "cache_errors": float(self._cache.errors),
        }

    async def aclose(self) -> None:
        """Closes the connections of the running loop. The client stays usable: the next call opens new ones."""
        state = self._loops.pop(asyncio.get_running_loop(), None)
        if state is not None:
            for http in state.connections:
                await http.aclose()

    def _state(self) -> _LoopState:
        loop = asyncio.get_running_loop()
        state = self._loops.get(loop)
        if state is None:
            import httpx

            # Loading certificates takes 50 ms, so it is done once and only where they are needed.
            verify = httpx.create_ssl_context() if self.settings.base_url.startswith("https") else False
            state = self._loops[loop] = _LoopState(asyncio.Semaphore(self.settings.max_concurrency), verify)
        return state

    @contextmanager
    def _connection(self, state: _LoopState) -> Iterator[httpx.AsyncClient]:
        """An idle connection, or a new one: never more than there are slots."""
        import httpx

        if not state.idle:
            limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
            base_url = self.settings.base_url.rstrip("/") + "/"
            state.idle.append(httpx.AsyncClient(base_url=base_url, limits=limits, verify=state.verify))
            state.connections.append(state.idle[-1])
        http = state.idle.pop()
        try:
            yield http
        finally:
            state.idle.append(http)

    async def _answer(self, state: _LoopState, key: str, inquiry: Inquiry) -> Verdict | Unanswered:
        """Tries the cache, waits for a free slot, asks the breaker, and calls the endpoint."""
        on_disk = self.settings.cache_dir is not None  # file systems may be slow, and this is the event loop
        names, texts = inquiry.verdict, inquiry.texts
        stored = await asyncio.to_thread(self._cache.read, key, names, texts) if on_disk else None
        if stored is not None:
            self._metrics.count("cache_hits")
            self._cache.remember(key, stored)
            return stored
        queued = self._clock()
        async with state.slots:
            self._metrics.observe("queue_s", self._clock() - queued)
            outcome = await self._through_breaker(state, inquiry)
        if isinstance(outcome, Unanswered):
            self._metrics.count(f"failed/{outcome.reason}")
            return outcome
        self._cache.remember(key, outcome)
        if on_disk:
            await asyncio.to_thread(self._cache.write, key, outcome)
        return outcome

    async def _through_breaker(self, state: _LoopState, inquiry: Inquiry) -> Verdict | Unanswered:
        role = self._breaker.enter()
        if role is None:
            return Unanswered("breaker_open")
        healthy: bool | None = None
        try:
            outcome = await self._converse(state, inquiry, probe=role == "probe")
            healthy = True
            return outcome
        except RequestFailed as failure:
            healthy = not failure.server_down
            return Unanswered(failure.reason, failure.status)
        finally:
            self._breaker.leave(role, healthy)

    async def _converse(self, state: _LoopState, inquiry: Inquiry, *, probe: bool) -> Verdict | Unanswered:
        """Asks, and once more if the reply is no verdict. The bad reply is not shown to the judge again: if a hostile
        response had caused it, it would stand in the chat as the judge's own words."""
        deadline = self._clock() + self.settings.deadline_s
        for reminded in (False, True):
            reply = await self._request(state, inquiry, deadline, reminded=reminded, probe=probe)
            verdict = parse_verdict(reply.text, inquiry.verdict, inquiry.texts)
            if verdict is not None:
                return verdict
            self._metrics.count("unreadable_replies")
        return Unanswered("unreadable")

    async def _request(
        self, state: _LoopState, inquiry: Inquiry, deadline: float, *, reminded: bool, probe: bool
    ) -> Reply:
        """One reply, with as many attempts as the settings, the deadline and the breaker allow."""
        with_schema = self._schema != "refused"
        retries = 0
        while True:
            try:
                reply = await self._attempt(state, inquiry, deadline, reminded=reminded, with_schema=with_schema)
            except RequestFailed as failure:
                if with_schema and self._blames_schema(failure):
                    with_schema = False
                    continue
                # The last real failure is raised: it says more than "out of time".
                if not failure.retryable or retries >= self.settings.max_retries:
                    raise
                wait = max(self._backoff_s(retries), failure.retry_after_s)
                if self._clock() + wait >= deadline:
                    raise
                await asyncio.sleep(wait)
                if self._breaker.is_open and not probe:  # other calls have found that the endpoint is down
                    raise
                retries += 1
                self._metrics.count("retries")
            else:
                # Now it is known whether the schema caused a refusal.
                self._schema = "works" if with_schema else "refused"
                return reply

    async def _attempt(
        self, state: _LoopState, inquiry: Inquiry, deadline: float, *, reminded: bool, with_schema: bool
    ) -> Reply:
        settings = self.settings
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": inquiry.messages(reminded=reminded),
            "temperature": settings.temperature,
            "max_tokens": settings.max_verdict_tokens,
            **settings.extra_body,
        }
        if with_schema:
            expected = verdict_schema(inquiry.verdict, inquiry.texts)
            schema = {"name": "verdict", "strict": True, "schema": expected}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        key = settings.api_key()
        if settings.api_key_env is not None and key is None:
            raise RequestFailed("no_api_key", retryable=False, server_down=False)
        self._metrics.count("requests")
        start = self._clock()
        with self._connection(state) as http:
            reply = await post_chat(http, body, key, min(settings.timeout_s, max(0.001, deadline - start)))
        self._metrics.observe("request_s", self._clock() - start)
        self._metrics.count("prompt_tokens", reply.prompt_tokens)
        self._metrics.count("completion_tokens", reply.completion_tokens)
        return reply

    def _blames_schema(self, failure: RequestFailed) -> bool:
        """Whether a refusal names the schema, or gives no reason while the schema has never worked."""
        return failure.schema_refused == "yes" or (failure.schema_refused == "perhaps" and self._schema == "untried")

    def _backoff_s(self, retries: int) -> float:
        longest = min(self.settings.max_backoff_s, self.settings.backoff_s * 2**retries)
        return longest * random.uniform(0.5, 1.0)


_SHARED: weakref.WeakValueDictionary[str, JudgeClient] = weakref.WeakValueDictionary()
_SHARED_LOCK = threading.Lock()
