"""From scored responses, one per row, to the evidence per problem that the pass@4 filter decides on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from data_filters.reading import Row, problem_key, score_value, text_key
from sailrl.errors import DataError

_OF_THE_RESPONSE = """
    response response_tokens finish_reason rollout_id reward scores problem_id n c samples
    version switches mean_logprob reward_reason accuracy episode step group rollout kept dropped_reason staleness
    advantage image_hashes
"""
OF_THE_RESPONSE = frozenset(_OF_THE_RESPONSE.split())
"""Fields of a scored row that do not belong to its problem."""


@dataclass(slots=True)
class Evidence:
    """The scored responses to one problem."""

    problem: str
    index: int
    """Position of the problem's first row in the input, where its fields can be read."""
    samples: list[float | None] = field(default_factory=list)
    """One score per response, None where it was not scored."""
    responses: list[str] = field(default_factory=list)
    """Fingerprints of the responses, in the same order."""


def gather(rows: Iterable[Row], score: str = "boxed") -> dict[str, Evidence]:
    """Collects the scores of all responses by problem, in one pass and without holding texts.

    Args:
        rows: problems with a ``response`` and ``scores``, several per problem and in any order.
        score: the named score that says whether a response is right; "reward" takes the total.

    Raises:
        DataError: a row has no response or lacks the score.
    """
    found: dict[str, Evidence] = {}
    for index, row in enumerate(rows):
        problem = problem_key(row)
        if not isinstance(row.get("response"), str):
            raise DataError(
                f"row {index} ({problem!r}) has no 'response' text; evidence is one scored response per row."
            )
        evidence = found.setdefault(problem, Evidence(problem, index))
        evidence.samples.append(score_value(row, score))
        evidence.responses.append(text_key(row["response"]))
    return found


def as_problem(row: Row) -> dict[str, Any]:
    """The problem of a scored row: the row without what belongs to its response."""
    problem = {name: value for name, value in row.items() if name not in OF_THE_RESPONSE}
    return {**problem, "id": row.get("problem_id") or row.get("id") or problem_key(row)}
