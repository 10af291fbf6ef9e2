"""The rules that every reward must keep, as a check that runs on any reward.

    from sailrl.scoring.contract import check_reward
    check_reward("my_reward.py:MyReward")          # raises RewardError, one line per broken rule

The reward runs in the real pool, on ordinary and on hostile responses: a model that is being trained will
write any kind of text.
"""

from __future__ import annotations

import asyncio
import copy
import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sailrl.errors import RewardError
from sailrl.scoring.calls import Outcome, checked, is_async, raised, takes_tokens
from sailrl.scoring.pool import RewardPool
from sailrl.scoring.scorer import Scorer, ScoreRequest
from sailrl.scoring.spec import PartSpec, ScoringSpec, build_reward
from sailrl.types import Problem, Score

FAST_BUDGET_S = 2.0
"""Processor time of ``fast`` on one response of 200,000 characters; a linear scan takes a small part of it."""
CHECK_LIMIT_S = 300.0
ENOUGH_SLOW = 3
"""Ordinary rows that run out of time before the rest are left out."""
_OUR_WORDS = ("raised:", "not_a_score:", "not_finite", "worker_died", "worker_cannot_start", "problem_not_json")
Rows = Mapping[str, ScoreRequest]

ORDINARY: tuple[ScoreRequest, ...] = tuple(
    ScoreRequest(response, problem, tokens)
    for problem in (
        Problem(prompt="What is 2 + 2?", answer="4", task="math"),
        Problem(prompt="What is 2 + 2?", answer=4),
        Problem(prompt="Name the roots.", answer=["1", "-1"]),
        Problem(prompt="Which?", answer="B", choices=("Rome", "Paris"), task="choice"),
        Problem(prompt=[{"role": "user", "content": "Is it?"}], answer="yes", response_prefix="<think>\n"),
        Problem(prompt="How long?", answer=2.24, precision=2, meta={"source": "test"}),
        Problem(prompt="Describe it."),
    )
    for response, tokens in (
        ("<think>\nTwo and two.\n</think>\nThe answer is \\boxed{4}.", 14),
        ("so that is it\n</think>\n\\boxed{B}", 9),
        ("\\boxed{-1} and \\boxed{1}", 8),
        ("I do not know", None),
        ("", 0),
    )
)
"""Ordinary rows."""


def hostile() -> Iterator[tuple[str, ScoreRequest]]:
    """Rows that have broken scorers before, each with a name."""
    four = Problem(answer="4", task="math")
    for name, text in {
        "a power tower": "9^{9^{9^9}}",
        "a power tower of tens": "10^{10^{10}}",
        "a big integer power": "9**9**9",
        "a huge factorial": "(10^9)!",
        "factorials of factorials": "100!!!!!!",
        "a long sum": "\\sum_{k=1}^{10^9} \\frac{1}{k^2}",
        "a huge binomial": "\\binom{10^9}{5 \\cdot 10^8}",
        "nested fractions": "\\frac{1}{" * 10_000 + "2" + "}" * 10_000,
        "nested brackets": "(" * 10_000 + "1" + ")" * 10_000,
        "nested roots": "\\sqrt{" * 10_000 + "2" + "}" * 10_000,
        "a number of 100,000 digits": "1" * 100_000,
        "python code": "__import__('os').system('kill -9 0')",
        "NaN": "nan",
        "infinity": "\\infty",
        "null bytes": "\x00\x00",
        "lone surrogates": "\ud800\udfff",
    }.items():
        yield name, ScoreRequest(f"<think>x</think>\\boxed{{{text}}}", four)
        yield f"{name} as the reference", ScoreRequest("<think>x</think>\\boxed{4}", Problem(answer=text))
    yield "unbalanced open braces", ScoreRequest("\\boxed{" * 50_000, four)
    yield "unbalanced closing braces", ScoreRequest("}" * 100_000 + "\\boxed{4", four)
    yield "only open braces", ScoreRequest("{" * 150_000, four)
    yield "many thinks", ScoreRequest("<think>" * 10_000 + "</think>" * 10_000 + "\\boxed{4}", four)
    yield "many boxes", ScoreRequest("\\boxed{4} " * 10_000, four)
    yield "5 MB of words", ScoreRequest("word " * 1_000_000 + "\\boxed{4}", four)
    yield "5 MB of braces", ScoreRequest("{" * 5_000_000, four)
    yield "null bytes and controls", ScoreRequest("\x00\x1b[2J\x07\u202e\\boxed{4}", four)
    yield "an answer that is NaN", ScoreRequest("\\boxed{nan}", Problem(answer=math.nan))
    yield "an answer that is infinite", ScoreRequest("\\boxed{4}", Problem(answer=math.inf))
    yield "an answer that is a number", ScoreRequest("\\boxed{4}", Problem(answer=4.0))
    yield "an answer that is true", ScoreRequest("\\boxed{4}", Problem(answer=True))
    yield "an answer that is an object", ScoreRequest("\\boxed{4}", Problem(answer={"value": 4}))
    yield "an answer that is an empty list", ScoreRequest("\\boxed{4}", Problem(answer=[]))
    yield "an answer that is a nested list", ScoreRequest("\\boxed{4}", Problem(answer=[["4", None], [{}]]))
    yield "an answer that is empty text", ScoreRequest("\\boxed{}", Problem(answer=""))
    yield "no answer", ScoreRequest("\\boxed{None}", Problem(answer=None))
    yield "no problem at all", ScoreRequest("\\boxed{4}", Problem())


def check_reward(
    use: str, args: Mapping[str, Any] | None = None, *, deadline_s: float = 1.0, limit_s: float = CHECK_LIMIT_S
) -> None:
    """Runs the reward ``use`` (``module:Name`` or ``file.py:Name``) through the rules.

    1. It returns a ``Score``, a finite number or None, and raises nothing, whatever the response and the problem.
    2. It says the same of the same response again, and in another process.
    3. It leaves the problem as it was.
    4. ``fast`` agrees with ``__call__`` wherever it answers, and is quick on long responses.
    5. ``explain`` returns lines of text.
    6. It answers to an ordinary row within ``deadline_s``. Running out of time on a hostile row breaks no rule: the
       pool ends that row.

    Hostile rows come after ordinary ones that break no rule. An async reward is only called on a few ordinary rows,
    since its calls may cost money; a server that cannot be reached must be ``failed`` and nothing worse.

    Args:
        limit_s: longest time of the whole check, in seconds; then what has been found is raised.

    Raises:
        RewardError: broken rules: each once, with the number of rows and the first of them. ConfigError: it cannot be
            loaded, or is no reward.
    """
    part = PartSpec(use, dict(args or {}), 1.0)
    reward = build_reward(part)
    check = _Check(part, reward, deadline_s, time.monotonic() + limit_s)
    rows = {f"ordinary row {i}": request for i, request in enumerate(ORDINARY)}
    if is_async(reward):
        check.run(dict(list(rows.items())[:5]))
    else:
        check.run(rows, ordinary=True)
        if not check.faults:
            check.run(dict(hostile()))
    if check.faults:
        listed = "\n".join(f"  {fault}" for fault in check.faults.values())
        raise RewardError(f"{use} breaks {len(check.faults)} rule{'s' * (len(check.faults) > 1)}:\n{listed}")


@dataclass(slots=True)
class _Fault:
    what: str
    first: str
    rows: int = 1

    def __str__(self) -> str:
        return f"{self.what}; {f'on {self.rows} rows, first ' * (self.rows > 1)}{self.first}"


@dataclass(slots=True)
class _Check:
    part: PartSpec
    reward: Any
    deadline_s: float
    until: float
    """On the monotonic clock."""
    faults: dict[str, _Fault] = field(default_factory=dict)
    """By what is wrong."""

    def run(self, rows: Rows, *, ordinary: bool = False) -> None:
        # Of an async reward only scores must stay: its server may be away one time and back the next.
        moving = {"timed_out", "failed"} if is_async(self.reward) else {"timed_out"}
        # The scores of __call__, also where fast would answer.
        first = self._scores(rows) if is_async(self.reward) else self._worker_scores(rows, ordinary)
        for name, outcome in first.items():
            score = outcome.score
            if score.reason.startswith(_OUR_WORDS):
                self._add(score.reason, name, rows[name], outcome.detail)
            elif ordinary and score.status == "timed_out":
                self._add(f"takes longer than {self.deadline_s:g} s", name, rows[name], outcome.detail)
        if self.faults:
            return
        if not self._in_this_process(rows, first):
            return
        for name, outcome in self._scores(dict(reversed(list(rows.items())))).items():
            if outcome.score.status not in moving and first[name].score.status not in moving:
                self._differ("the second time", name, rows[name], first[name].score, outcome.score)

    def _add(self, what: str, name: str, request: ScoreRequest | None = None, detail: str = "") -> None:
        if what in self.faults:
            self.faults[what].rows += 1
            return
        row = (
            ""
            if request is None
            else f" (response {_short(request.response)}, answer {_short(request.problem.answer)})"
        )
        self.faults[what] = _Fault(what, f"{name}{row}{f': {detail}' if detail else ''}")

    def _differ(self, when: str, name: str, request: ScoreRequest, one: Score, other: Score) -> None:
        if one != other:
            said = f"{other.value} by {other.reason!r} instead of {one.value} by {one.reason!r}"
            self._add(f"does not say the same {when}", name, request, f"it says {said}")

    def _late(self, name: str, request: ScoreRequest | None) -> None:
        self._add("the check ran out of time", name, request)

    def _scores(self, rows: Rows) -> dict[str, Outcome]:
        """As ``Scorer`` scores them: ``fast`` first."""

        async def all_rows(scorer: Scorer) -> dict[str, Outcome]:
            tasks = {name: asyncio.ensure_future(scorer.score(*request)) for name, request in rows.items()}
            await asyncio.wait(tasks.values(), timeout=self._left_s())
            scored = {name: task.result() for name, task in tasks.items() if task.done()}
            for name in tasks.keys() - scored.keys():
                tasks[name].cancel()
                self._late(name, rows[name])
            return {name: Outcome(one.scores["reward"], one.details.get("reward", "")) for name, one in scored.items()}

        with Scorer(ScoringSpec({"reward": self.part}, deadline_s=self.deadline_s)) as scorer:
            return asyncio.run(all_rows(scorer))

    def _worker_scores(self, rows: Rows, ordinary: bool) -> dict[str, Outcome]:
        """As ``__call__`` scores them, in a worker."""
        pool = RewardPool({"reward": self.part}, workers=2, deadline_s=self.deadline_s, memory_bytes=1 << 30)
        done: dict[str, Outcome] = {}
        too_slow = 0
        try:
            futures = {name: pool.submit("reward", *request) for name, request in rows.items()}
            for name, future in futures.items():
                try:
                    done[name] = future.result(timeout=self._left_s())
                except TimeoutError:
                    self._late(name, rows[name])
                    break
                too_slow += ordinary and done[name].score.status == "timed_out"
                if too_slow == ENOUGH_SLOW:
                    break
        finally:
            pool.close()
        return done

    def _left_s(self) -> float:
        return max(0.0, self.until - time.monotonic())

    def _in_this_process(self, rows: Rows, slow: Mapping[str, Outcome]) -> bool:
        """Checks what runs in the scorer's process: in a thread, since it may never return. False when it did not."""
        at = [""]

        def run() -> None:
            for name, request in rows.items() if hasattr(self.reward, "fast") else ():
                at[0] = f"fast on {name}"
                self._check_fast(name, request, slow[name].score)
            at[0] = "explain"
            self._check_explain()
            at[0] = "a call on an ordinary row"
            self._check_problem_is_kept()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(self._left_s())
        if thread.is_alive():
            self._late(at[0], None)
        return not thread.is_alive()

    def _check_fast(self, name: str, request: ScoreRequest, slow: Score) -> None:
        fast = self.reward.fast
        tokens = {"response_tokens": request.response_tokens} if takes_tokens(fast) else {}
        began = time.thread_time()
        try:
            said = fast(request.response, request.problem, **tokens)
        except (Exception, SystemExit) as error:
            self._add(f"fast raises {type(error).__name__}; it must say None when it cannot tell", name, request)
            return
        if time.thread_time() - began > FAST_BUDGET_S and len(request.response) <= 200_000:
            length = f"it took more than {FAST_BUDGET_S:g} s for {len(request.response):,} characters"
            self._add("fast is slow on long responses; it must be linear", name, request, length)
        if said is not None and slow.status != "timed_out":
            self._differ("in fast", name, request, slow, checked(said).score)

    def _check_explain(self) -> None:
        if not hasattr(self.reward, "explain"):
            return
        try:
            lines = self.reward.explain(ORDINARY[0].response, ORDINARY[0].problem)
        except (Exception, SystemExit) as error:
            self._add("explain raises", "ordinary row 0", ORDINARY[0], raised(error).detail)
            return
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            self._add("explain returns something other than a list of text", "ordinary row 0", ORDINARY[0])

    def _check_problem_is_kept(self) -> None:
        problem = Problem(answer=["1", "2"], choices=["x", "y"], meta={"k": [1]})
        before = copy.deepcopy(problem)
        request = ScoreRequest("\\boxed{1}", before)
        try:
            result = self.reward(request.response, problem)
            if is_async(self.reward):
                asyncio.run(result)
        except (Exception, SystemExit) as error:
            self._add("raises", "a problem with choices and meta", request, raised(error).detail)
        if problem != before:
            what = "changes the problem it is given, which other rewards and the next response see, too"
            self._add(what, "a problem with choices and meta", request)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-17:]}"
