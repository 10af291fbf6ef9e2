"""From the row of a file to a request, and from the result to the row of the scored file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sailrl.data.contract import parse_problem
from sailrl.data.fields import BrokenRow
from sailrl.data.rows import BadRow, Row
from sailrl.scoring.scorer import ScoreRequest
from sailrl.types import Score


def request_from_row(row: Row | BadRow, *, where: str, folder: Path) -> ScoreRequest | Score:
    """What to score, or the verdict on a row that cannot be: ``unscorable``, by a reason that names the field."""
    if isinstance(row, BadRow):
        return _unscorable(row.rule)
    try:
        return _request(row, where, folder)
    except BrokenRow as broken:
        missing = broken.field == "response" and row.get("response") is None
        return _unscorable("missing_response" if missing else f"bad_field:{broken.field.split('[')[0]}")
    except RecursionError:
        return _unscorable("too_deep")


def broken_rule(row: Row | BadRow, *, where: str, folder: Path) -> str | None:
    """Why a row cannot be scored, in words; None when it can."""
    if isinstance(row, BadRow):
        return row.detail
    try:
        _request(row, where, folder)
    except BrokenRow as broken:
        return f"{broken.field}: {broken.rule}"
    except RecursionError:
        return "it is nested too deeply"
    return None


def _request(row: Row, where: str, folder: Path) -> ScoreRequest:
    response, tokens = row.get("response"), row.get("response_tokens")
    if response is None:
        raise BrokenRow("response", "is missing; it is what is scored")
    if not isinstance(response, str):
        raise BrokenRow("response", f"must be text, not {type(response).__name__}")
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0):
        raise BrokenRow("response_tokens", "must be a whole number of at least 0")
    problem = parse_problem(_usual_forms(row), where=where, need_prompt=False, folder=folder)
    return ScoreRequest(response, problem, tokens)


def out_row(row: Row | BadRow, result: Mapping[str, Any]) -> Row:
    """The row with its result behind it. A line that was no row is replaced by its error."""
    kept = {"error": f"line {row.line}: {row.detail}"} if isinstance(row, BadRow) else row
    return {name: value for name, value in kept.items() if name not in result} | dict(result)


def _usual_forms(row: Row) -> Row:
    """In tables with missing values whole numbers are floats and missing ones are NaN; both are converted back."""
    precision = row.get("precision")
    if not isinstance(precision, float):
        return row
    return row | {
        "precision": int(precision) if precision.is_integer() else None if precision != precision else precision
    }


def _unscorable(reason: str) -> Score:
    return Score(None, "unscorable", reason)
