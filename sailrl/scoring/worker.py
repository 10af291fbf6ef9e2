"""The worker's side of the pool. Only JSON values are sent between the processes, because unpickling runs code."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from sailrl.scoring.calls import Outcome, call, checked, raised, takes_tokens
from sailrl.scoring.spec import PartSpec, build_reward
from sailrl.types import Problem, Score

_BYTES = "$bytes"


class RewardWorker:
    """Target of the pool's ``Killable``: builds every CPU-bound reward once, then scores one response per call.

    A reward may have a method ``warm_up()``: slow imports belong there, since they do not count against a deadline.
    """

    def __init__(self, parts: Mapping[str, Sequence[Any]]) -> None:
        self._rewards = {name: build_reward(PartSpec(use, args)) for name, (use, args) in parts.items()}
        self._takes_tokens = {name: takes_tokens(reward) for name, reward in self._rewards.items()}
        for reward in self._rewards.values():
            if (warm_up := getattr(reward, "warm_up", None)) is not None:
                warm_up()

    def __call__(self, what: str, name: str, response: str, problem: dict[str, Any], tokens: int | None) -> Any:
        reward = self._rewards[name]
        if what == "explain":
            return [str(line) for line in reward.explain(response, unpack_problem(problem))]
        if what == "dry_run":
            if hasattr(reward, "dry_run"):
                reward.dry_run(unpack_problem(problem))
            return hasattr(reward, "dry_run")
        keywords = {"response_tokens": tokens} if self._takes_tokens[name] else {}
        try:
            outcome = call(reward, response, unpack_problem(problem), **keywords) or checked(None)
        except MemoryError:
            raise
        except BaseException as error:  # a library's own time-out, or sys.exit() in user code
            outcome = raised(error)
        if outcome.score.reason == "raised:MemoryError":
            raise MemoryError  # so that the worker is replaced: its libraries may be in a broken state
        return [outcome.score.value, outcome.score.status, outcome.score.reason, outcome.detail]


def unpack_outcome(reply: Sequence[Any]) -> Outcome:
    """The outcome in a worker's reply."""
    value, status, reason, detail = reply
    return Outcome(Score(value, status, reason), detail)


def pack_problem(problem: Problem) -> dict[str, Any]:
    """A problem as JSON values, without fields that have their default."""
    values = ((name, getattr(problem, name)) for name in Problem.__dataclass_fields__)
    return {name: _pack(value) for name, value in values if value is not getattr(_BARE, name)}


def unpack_problem(packed: Mapping[str, Any]) -> Problem:
    """The problem that ``pack_problem`` packed."""
    return Problem(**{name: _unpack(value) for name, value in packed.items()})


_BARE = Problem()


def _pack(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {str(key): _pack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_pack(item) for item in value), key=str)
    return str(value)  # dates and decimals from Parquet


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_BYTES}:
            return base64.b64decode(value[_BYTES])
        return {key: _unpack(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unpack(item) for item in value]
    return value
