"""Scores responses: the one implementation behind training, ``sailrl score``, filters and evaluation."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sailrl import plugins
from sailrl.errors import RewardError
from sailrl.scoring.calls import Outcome, call, checked, is_async, raised, takes_tokens
from sailrl.scoring.pool import RewardPool
from sailrl.scoring.spec import ScoringSpec, build_reward
from sailrl.scoring.tally import Tally
from sailrl.types import Problem, Score

INLINE_CHARS = 200_000
"""Longer responses (far beyond what a model writes) go to a worker, where they are under a deadline."""
WINDOW_ROWS = 4096
WINDOW_CHARS = 64_000_000
"""How far ``score_stream`` reads ahead of the oldest row that is still being scored."""
ASYNC_DEADLINE_S = 300.0
"""For async rewards without a ``deadline_s`` of their own; long, since such rewards retry on their own."""

MAX_TOLD = 20
"""Most different failures that are reported: reasons come from user code."""

Payload = TypeVar("Payload")


class ScoreRequest(NamedTuple):
    """One response to score."""

    response: str
    problem: Problem
    response_tokens: int | None = None
    """Length of the response in tokens, for rewards that go by it; None when only the text is known."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of one response."""

    scores: Mapping[str, Score]
    """One score per part, in the order of the spec."""
    total: Score
    """The reward, by the combining rule; unscored (value None) when a part it needs was not scored."""
    details: Mapping[str, str]
    """For people: what went wrong in parts that failed, in words."""


class Scorer:
    """Runs the rewards of a spec on responses. Build it once, ``close()`` it at the end (or use ``with``).

    In a training loop (any event loop, many at a time; rollouts are scored as they finish)::

        scorer = Scorer(ScoringSpec.from_config(config.rewards))
        scored = await scorer.score(completion.text, problem, response_tokens=len(completion.token_ids))
        scored.scores["boxed"].value, scored.total.value      # a float, or None with .status and .reason
        metrics |= scorer.metrics()                           # counts since the last call

    Over a file, in order, with memory that does not grow::

        for row, scored in scorer.score_stream((row, ScoreRequest(response, problem)) for ...):

    Where parts run: a reward's ``fast`` in the caller's process, ``async`` rewards on an event loop in a thread of the
    scorer, all others in worker processes with a deadline. Scores do not depend on the number of workers or the order
    of calls. No response makes it raise: a failure becomes the status and reason of that part.

    Raises:
        ConfigError, RewardError: a reward or the combining rule cannot be loaded, or they do not fit together.
    """

    def __init__(
        self, spec: ScoringSpec, *, workers: int | None = None, say: Callable[[str], None] = lambda line: None
    ) -> None:
        """Args:
        workers: processes for CPU-bound rewards, in place of the spec's.
        say: called once for each part and reason with which a reward failed or ran out of time.
        """
        if not spec.parts:
            raise RewardError("there is nothing to score with: name at least one reward.")
        self.spec = spec
        self.parts = tuple(spec.parts)
        self._weights = spec.weights
        self._combine = plugins.build_callable(spec.combine.use, spec.combine.args)
        self._rewards = {name: build_reward(part) for name, part in spec.parts.items()}
        self._check_combine()
        plain = {name: part for name, part in spec.parts.items() if not is_async(self._rewards[name])}
        self._async = tuple(name for name in self.parts if name not in plain)
        self._fast: dict[str, Callable[..., Any]] = {
            name: self._rewards[name].fast for name in plain if hasattr(self._rewards[name], "fast")
        }
        self._takes_tokens = {name: takes_tokens(reward) for name, reward in self._rewards.items()}
        self._fast_takes_tokens = {name: takes_tokens(fast) for name, fast in self._fast.items()}
        self._pool = RewardPool(
            plain, workers=workers or spec.workers, deadline_s=spec.deadline_s, memory_bytes=spec.memory_bytes
        )
        self._loop = _LoopThread() if self._async else None
        self._tally = Tally()
        self._say, self._said = say, set[tuple[str, str]]()

    async def score(self, response: str, problem: Problem, response_tokens: int | None = None) -> Scored:
        """Scores one response from any event loop, without blocking it."""
        row = self._begin(ScoreRequest(response, problem, response_tokens))
        try:
            for future in row.waiting.values():
                await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            row.cancel()
            raise
        return self._finish(row)

    def score_now(self, response: str, problem: Problem, response_tokens: int | None = None) -> Scored:
        """Scores one response and waits for it: for plain code."""
        return self._finish(self._begin(ScoreRequest(response, problem, response_tokens)))

    def score_stream(self, rows: Iterable[tuple[Payload, ScoreRequest | Score]]) -> Iterator[tuple[Payload, Scored]]:
        """Scores rows in order, reading at most a bounded window ahead of the oldest unfinished one.

        The payload (a file's row, say) is handed back untouched. A ``Score`` in place of a request is a verdict known
        beforehand (a row that cannot be read) and becomes the score of every part.
        """
        window: deque[tuple[Payload, _Row, int]] = deque()
        chars = 0
        try:
            for payload, request in rows:
                row = self._begin(request)
                size = len(request.response) if isinstance(request, ScoreRequest) else 0
                window.append((payload, row, size))
                chars += size
                while window and (len(window) > WINDOW_ROWS or chars > WINDOW_CHARS or window[0][1].done()):
                    payload, row, size = window.popleft()
                    chars -= size
                    yield payload, self._finish(row)
            while window:
                payload, row, _ = window.popleft()
                yield payload, self._finish(row)
        finally:
            for _, row, _ in window:  # the caller stopped early
                row.cancel()

    def explain(self, response: str, problem: Problem, response_tokens: int | None = None) -> dict[str, list[str]]:
        """The decision path of one response: per part the lines of its ``explain``, where it has one, and its score."""
        scored = self.score_now(response, problem, response_tokens)
        lines: dict[str, list[str]] = {}
        for name, score in scored.scores.items():
            lines[name] = []
            if name not in self._async and hasattr(self._rewards[name], "explain"):
                try:
                    lines[name] = self._pool.explain(name, response, problem)
                except Exception as error:
                    lines[name] = [f"explain: {type(error).__name__}: {error}"]
            detail = f" ({scored.details[name]})" if name in scored.details else ""
            last = f"{score.status}: {score.value} by {score.reason or 'no reason given'}{detail}"
            if lines[name][-1:] != [last]:  # a reward's own path may end with it
                lines[name].append(last)
        return lines

    def metrics(self) -> dict[str, float]:
        """What happened since the last call: ``score/<part>/<status>``, ``score/<part>/reason/<reason>`` and
        ``score/<part>/{inline,worker,async}`` in rows, ``score/<part>/latency_s/{mean,max}`` in seconds, and
        what rewards report themselves in ``metrics()``."""
        metrics = self._tally.take()
        for name, reward in self._rewards.items():
            if callable(own := getattr(reward, "metrics", None)):
                try:
                    metrics |= {f"score/{name}/{key}": float(value) for key, value in own().items()}
                except (Exception, SystemExit):  # user code: a failed count does not end a run
                    metrics[f"score/{name}/metrics_failed"] = 1.0
        return metrics

    def close(self) -> None:
        """Kills the workers and stops the event loop; rows still queued are dropped."""
        self._pool.close()
        if self._loop is not None:
            closing = [getattr(self._rewards[name], "aclose", None) for name in self._async]
            self._loop.close([aclose for aclose in closing if aclose is not None])

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_combine(self) -> None:
        """Checks that the combining rule works with the configured parts, here and not after the first rollouts."""
        try:
            result = self._combine({name: Score(0.0) for name in self.parts}, self._weights)
        except (Exception, SystemExit) as error:
            raise RewardError(
                f"the combining rule {self.spec.combine.use!r} does not work with the parts {', '.join(self.parts)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(result, Score):
            raise RewardError(
                f"the combining rule {self.spec.combine.use!r} returned {type(result).__name__}, not Score."
            )

    def _begin(self, request: ScoreRequest | Score) -> _Row:
        """Calls ``fast`` where there is one, and submits the other parts."""
        row = _Row()
        if isinstance(request, Score):
            row.verdict = request
            return row
        response, problem, tokens = request
        for name in self.parts:
            began = time.perf_counter()
            if name in self._fast and len(response) <= INLINE_CHARS:
                keywords = {"response_tokens": tokens} if self._fast_takes_tokens[name] else {}
                outcome = call(self._fast[name], response, problem, **keywords)
                if outcome is not None:
                    row.answered[name] = (outcome, time.perf_counter() - began, "inline")
                    continue
            if name in self._async:
                assert self._loop is not None
                row.wait(name, self._loop.submit(self._ask(name, response, problem, tokens)), began, "async")
            else:
                row.wait(name, self._pool.submit(name, response, problem, tokens), began, "worker")
        return row

    async def _ask(self, name: str, response: str, problem: Problem, tokens: int | None) -> Outcome:
        reward = self._rewards[name]
        keywords = {"response_tokens": tokens} if self._takes_tokens[name] else {}
        deadline_s = getattr(reward, "deadline_s", None) or ASYNC_DEADLINE_S
        try:
            async with asyncio.timeout(deadline_s) as limit:
                outcome = checked(await reward(response, problem, **keywords))
        except TimeoutError as error:
            if not limit.expired():
                return raised(error)
            detail = f"no answer within {deadline_s:g} s; an async reward sets its own limit, the attribute deadline_s"
            return Outcome(Score(None, "timed_out", "deadline"), detail)
        except (Exception, SystemExit) as error:  # the latter would end the event loop
            return raised(error)
        if outcome.score.status in ("failed", "timed_out") and not outcome.detail and hasattr(reward, "failure"):
            return Outcome(outcome.score, reward.failure(outcome.score.reason))
        return outcome

    def _finish(self, row: _Row) -> Scored:
        if row.verdict is not None:
            return Scored(dict.fromkeys(self.parts, row.verdict), row.verdict, {})
        for name, future in row.waiting.items():
            outcome = future.result()
            began, where = row.began[name]
            row.answered[name] = (outcome, row.ended.get(name, time.perf_counter()) - began, where)
        self._tally.add(row.answered)
        outcomes = {name: row.answered[name][0] for name in self.parts}
        scores = {name: outcome.score for name, outcome in outcomes.items()}
        details = {name: outcome.detail for name, outcome in outcomes.items() if outcome.detail}
        total = call(self._combine, scores, self._weights) or checked(None)
        if total.detail:
            details["total"] = total.detail
        self._tell(scores, details)
        return Scored(scores, total.score, details)

    def _tell(self, scores: Mapping[str, Score], details: Mapping[str, str]) -> None:
        for name, score in scores.items():
            if score.status not in ("failed", "timed_out") or (name, score.reason) in self._said:
                continue
            self._said.add((name, score.reason))
            if len(self._said) <= MAX_TOLD:
                why = f": {details[name]}" if name in details else ""
                self._say(f"reward {name} {score.status.replace('_', ' ')}, {score.reason}{why}; said once")


class _Row:
    """One response in progress: the parts that are scored, and futures of the others."""

    __slots__ = ("answered", "began", "ended", "verdict", "waiting")

    def __init__(self) -> None:
        self.verdict: Score | None = None
        self.answered: dict[str, tuple[Outcome, float, str]] = {}
        self.waiting: dict[str, Future[Outcome]] = {}
        self.began: dict[str, tuple[float, str]] = {}
        self.ended: dict[str, float] = {}

    def wait(self, name: str, future: Future[Outcome], began: float, where: str) -> None:
        self.waiting[name] = future
        self.began[name] = (began, where)
        future.add_done_callback(lambda _: self.ended.__setitem__(name, time.perf_counter()))

    def done(self) -> bool:
        return all(future.done() for future in self.waiting.values())

    def cancel(self) -> None:
        for future in self.waiting.values():
            future.cancel()


class _LoopThread:
    """An event loop in its own thread: judges can be called from plain code and do not block the caller's loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scoring-loop", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self, closing: list[Callable[[], Any]]) -> None:
        if self._loop.is_closed():
            return

        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for aclose in closing:
                with contextlib.suppress(Exception):
                    await aclose()

        with contextlib.suppress(TimeoutError):
            self.submit(end()).result(timeout=10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10.0)
        if not self._thread.is_alive():
            self._loop.close()
