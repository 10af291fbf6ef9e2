"""Rewards that were written for TRL, verl or verifiers: each is called as that library calls it, with one response and
its problem at a time."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from sailrl.errors import ConfigError
from sailrl.types import Problem

Arguments = Callable[[str, Problem], dict[str, Any]]

_RESPONSE = {"TRL": "completions", "verl": "solution_str", "verifiers": "completion"}
"""The argument that takes the response, by which a reward of each library is known."""
_VERIFIERS = {"prompt", "completion", "answer", "state", "task", "info", "parser", "kwargs"}
"""All that a reward of verifiers may take."""
_ANSWER_NAMES = ("answer", "answers", "solution", "ground_truth", "label", "target")
"""Names under which other data sets have the reference answer; a column of that name in the row comes first."""
_NOT_HERE = {
    "TRL": {"completion_ids", "trainer_state", "log_extra", "log_metric", "environments"},
    "verl": set[str](),
    "verifiers": {"state", "parser"},
}
"""Arguments that have no counterpart here."""
_MESSAGES = re.compile(r"list|dict|Message", re.IGNORECASE)


def library_of(signature: inspect.Signature) -> str:
    """``TRL``, ``verl`` or ``verifiers`` where a reward has the arguments of it; else empty."""
    names = set(signature.parameters)
    found = next((library for library, response in _RESPONSE.items() if response in names), "")
    return "" if found == "verifiers" and not names <= _VERIFIERS else found


def as_reward(function: Callable[..., Any], signature: inspect.Signature, what: str) -> Callable[..., Any]:
    """``reward(response, problem)``, which calls ``function`` as its own library does.

    TRL's rewards get lists of one and return a list of one. Every field of the row is an argument, and the reference
    answer goes by its usual names (``solution``, ``ground_truth``, ...). The response is a chat message where the
    function is annotated with one or, without an annotation, where the prompt is a chat (TRL's rule); always for
    verifiers.

    Args:
        what: names the reward in errors.

    Raises:
        ConfigError: it needs something that has no counterpart here.
    """
    library = library_of(signature)
    needed = [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in (2, 4)]
    if missing := [name for name in needed if name in _NOT_HERE[library]]:
        raise ConfigError(
            f"{what} takes {signature}, the arguments of {library}, but sailrl has no {', '.join(missing)} to give. "
            f"Give {missing[0]} a default, or write `def score(response, problem)` in its place."
        )
    arguments = _arguments_of(library, signature, needed)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004

        async def reward(response: str, problem: Problem) -> Any:
            return _result(library, await function(**arguments(response, problem)))

        return reward

    def plain_reward(response: str, problem: Problem) -> Any:
        return _result(library, function(**arguments(response, problem)))

    return plain_reward


def _arguments_of(library: str, signature: inspect.Signature, needed: list[str]) -> Arguments:
    takes_all = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    annotation = str(signature.parameters[_RESPONSE[library]].annotation)

    def arguments(response: str, problem: Problem) -> dict[str, Any]:
        values = _columns(problem)
        if library == "verl":
            values |= {"data_source": problem.task, "solution_str": response, "extra_info": dict(problem.meta)}
        else:
            chat = library == "verifiers" or _is_chat(annotation, problem)
            prompt = _chat(problem) if chat else problem.prompt
            completion = [{"role": "assistant", "content": response}] if chat else response
            values |= {"prompt": prompt, "completion": completion, "info": dict(problem.meta)}
        if library == "TRL":
            prompt, completion = values.pop("prompt"), values.pop("completion")
            values = {name: [value] for name, value in values.items()}
            values |= {"prompts": [prompt], "completions": [completion]}
        if absent := [name for name in needed if name not in values]:
            raise KeyError(f"the reward takes {absent[0]!r}, and this problem has no such column; it has {[*values]}")
        return values if takes_all else {name: values[name] for name in signature.parameters if name in values}

    return arguments


def _columns(problem: Problem) -> dict[str, Any]:
    """The fields of the row by name, and the answer under the names that other data sets have for it."""
    fields = {name: getattr(problem, name) for name in ("id", "images", "choices", "precision", "task")}
    return dict.fromkeys(_ANSWER_NAMES, problem.answer) | fields | dict(problem.meta) | {"answer": problem.answer}


def _is_chat(annotation: str, problem: Problem) -> bool:
    """Whether a completion is a list of messages: as annotated, ``list[list[dict]]`` or ``list[str]``, or as the prompt
    is."""
    inner = annotation.partition("[")[2]
    if inner.startswith("str"):
        return False
    return bool(_MESSAGES.search(inner)) or not isinstance(problem.prompt, str)


def _chat(problem: Problem) -> list[Mapping[str, Any]]:
    prompt = problem.prompt
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def _result(library: str, returned: Any) -> Any:
    """The one value; ``scoring.calls.checked`` reads it as it reads that of any reward."""
    if library == "TRL":
        if not isinstance(returned, list | tuple) or len(returned) != 1:
            raise TypeError(f"a reward of TRL returns a list with one value per completion, here 1, not {returned!r}")
        return returned[0]
    if library == "verl" and isinstance(returned, Mapping):
        return returned.get("score")
    return returned
