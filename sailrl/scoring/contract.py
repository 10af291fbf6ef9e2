"""What every reward must keep, as a check that runs on any of them, ours or a user's.

    from sailrl.scoring.contract import check_reward
    check_reward("my_reward.py:MyReward")          # raises RewardError, one line per broken rule

The reward runs in the real pool, on ordinary and on hostile responses: a model that is being trained finds every way
to write what nobody expected.
"""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sailrl.errors import RewardError
from sailrl.scoring.calls import is_async, takes_tokens
from sailrl.scoring.pool import WorkerPool
from sailrl.scoring.scorer import Request, Scorer
from sailrl.scoring.spec import PartSpec, ScoringSpec, build_reward
from sailrl.types import Problem, Score

FAST_BUDGET_S = 2.0
"""For ``fast`` on one response of 200,000 characters; a linear scan takes a small part of it."""
_OUR_WORDS = ("raised:", "not_a_score:", "worker_died", "worker_cannot_start", "problem_not_json")

ORDINARY: tuple[Request, ...] = tuple(
    Request(response, problem, tokens)
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
"""Rows as they come."""


def hostile() -> Iterator[tuple[str, Request]]:
    """Named rows that have broken scorers before."""
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
        yield name, Request(f"<think>x</think>\\boxed{{{text}}}", four)
        yield f"{name} as the reference", Request("<think>x</think>\\boxed{4}", Problem(answer=text))
    yield "unbalanced open braces", Request("\\boxed{" * 50_000, four)
    yield "unbalanced closing braces", Request("}" * 100_000 + "\\boxed{4", four)
    yield "only open braces", Request("{" * 150_000, four)
    yield "many thinks", Request("<think>" * 10_000 + "</think>" * 10_000 + "\\boxed{4}", four)
    yield "many boxes", Request("\\boxed{4} " * 10_000, four)
    yield "5 MB of words", Request("word " * 1_000_000 + "\\boxed{4}", four)
    yield "5 MB of braces", Request("{" * 5_000_000, four)
    yield "null bytes and controls", Request("\x00\x1b[2J\x07\u202e\\boxed{4}", four)
    yield "an answer that is NaN", Request("\\boxed{nan}", Problem(answer=math.nan))
    yield "an answer that is infinite", Request("\\boxed{4}", Problem(answer=math.inf))
    yield "an answer that is a number", Request("\\boxed{4}", Problem(answer=4.0))
    yield "an answer that is true", Request("\\boxed{4}", Problem(answer=True))
    yield "an answer that is an object", Request("\\boxed{4}", Problem(answer={"value": 4}))
    yield "an answer that is an empty list", Request("\\boxed{4}", Problem(answer=[]))
    yield "an answer that is a nested list", Request("\\boxed{4}", Problem(answer=[["4", None], [{}]]))
    yield "an answer that is empty text", Request("\\boxed{}", Problem(answer=""))
    yield "no answer", Request("\\boxed{None}", Problem(answer=None))
    yield "no problem at all", Request("\\boxed{4}", Problem())


def check_reward(use: str, args: Mapping[str, Any] | None = None, *, deadline_s: float = 1.0) -> None:
    """Runs the reward ``use`` (``module:Name`` or ``file.py:Name``) through the rules.

    1. It returns ``Score`` and raises nothing, whatever the response and the problem.
    2. It says the same of the same response again, and in another process.
    3. It leaves the problem as it was.
    4. ``fast`` agrees with ``__call__`` wherever it answers, and is quick on long responses.
    5. ``explain`` returns lines of text.

    Running out of time on a hostile row breaks no rule: the pool ends that row. An async reward is only called on a few
    ordinary rows, since its calls may cost money; a server that cannot be reached must be ``failed`` and nothing worse.

    Raises:
        RewardError: broken rules, one line each. ConfigError: it cannot be loaded.
    """
    part = PartSpec(use, dict(args or {}), 1.0)
    reward = build_reward(part)
    rows = [(f"ordinary row {i}", request) for i, request in enumerate(ORDINARY)]
    broken: list[str] = []
    if is_async(reward):
        rows = rows[:5]
        first = _scores(part, rows, deadline_s)
    else:
        rows += hostile()
        first = _worker_scores(part, rows, deadline_s)  # what __call__ says, also where fast would answer
        broken += _check_fast(reward, first, dict(rows))
        broken += _check_explain(reward)
    for name, score in first.items():
        if score.reason.startswith(_OUR_WORDS):
            broken.append(f"{name}: {score.reason}; a reward returns Score whatever it is given")
    for name, score in _scores(part, rows[::-1], deadline_s).items():
        # A server may be away one time and back the next; a score, once given, stays.
        moving = ("timed_out", "failed") if is_async(reward) else ("timed_out",)
        if score.status not in moving and first[name].status not in moving:
            broken += _differ(name, "the second time", first[name], score)
    broken += _check_problem_is_kept(reward)
    if broken:
        shown = "\n".join(f"  {line}" for line in broken[:20])
        raise RewardError(f"{use} breaks {len(broken)} rules:\n{shown}")


def _scores(part: PartSpec, rows: Sequence[tuple[str, Request]], deadline_s: float) -> dict[str, Score]:
    """As ``Scorer`` scores them: ``fast`` first."""
    with Scorer(ScoringSpec({"reward": part}, deadline_s=deadline_s)) as scorer:
        return {name: scored.scores["reward"] for name, scored in scorer.score_stream(iter(rows))}


def _worker_scores(part: PartSpec, rows: Sequence[tuple[str, Request]], deadline_s: float) -> dict[str, Score]:
    """As ``__call__`` scores them, in a worker."""
    pool = WorkerPool({"reward": part}, workers=2, deadline_s=deadline_s, memory_bytes=1 << 30)
    try:
        futures = {name: pool.submit("reward", *request) for name, request in rows}
        return {name: future.result().score for name, future in futures.items()}
    finally:
        pool.close()


def _check_fast(reward: Any, slow: Mapping[str, Score], rows: Mapping[str, Request]) -> Iterator[str]:
    fast = getattr(reward, "fast", None)
    if fast is None:
        return
    for name, request in rows.items():
        began = time.perf_counter()
        try:
            tokens = {"response_tokens": request.response_tokens} if takes_tokens(fast) else {}
            said = fast(request.response, request.problem, **tokens)
        except Exception as error:
            yield f"{name}: fast raises {type(error).__name__}; it must say None when it cannot tell"
            continue
        if (took := time.perf_counter() - began) > FAST_BUDGET_S and len(request.response) <= 200_000:
            yield f"{name}: fast takes {took:.1f} s for {len(request.response):,} characters; it must be linear"
        if said is not None and slow[name].status != "timed_out":
            yield from _differ(name, "in fast", slow[name], said)


def _check_explain(reward: Any) -> Iterator[str]:
    if hasattr(reward, "explain"):
        lines = reward.explain(ORDINARY[0].response, ORDINARY[0].problem)
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            yield "explain: returns something other than a list of text"


def _check_problem_is_kept(reward: Any) -> Iterator[str]:
    problem = Problem(answer=["1", "2"], choices=["x", "y"], meta={"k": [1]})
    before = copy.deepcopy(problem)
    try:
        result = reward("\\boxed{1}", problem)
        if is_async(reward):
            asyncio.run(result)
    except Exception:
        return  # reported above, by the pool
    if problem != before:
        yield "it changes the problem it is given; other rewards and the next response see the same object"


def _differ(name: str, when: str, one: Score, other: Score) -> Iterator[str]:
    if one != other:
        yield f"{name}: {when} it says {other.value} by {other.reason!r} instead of {one.value} by {one.reason!r}"
