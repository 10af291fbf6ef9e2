"""From a judge's reply to a verdict, strictly: one JSON object with exactly the booleans that were asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def verdict_schema(names: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of a verdict, in the strict form that OpenAI, vLLM and SGLang enforce while decoding."""
    return {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in names},
        "required": list(names),
        "additionalProperties": False,
    }


def parse_verdict(reply: str, names: Sequence[str]) -> dict[str, bool] | None:
    """The verdict, or None when the reply is anything but one.

    The object may stand in a code fence, or after the reasoning of a judge that thinks in ``<think>``; nothing else may
    stand beside it. Searching the reply for an object instead would let a judge's quotation of a forged verdict count
    as its own.
    """
    text = reply.rpartition("</think>")[2].strip()
    if text.startswith("```") and text.endswith("```"):
        text = text.removeprefix("```").removeprefix("json").removesuffix("```")
    try:
        verdict = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        return None
    if not isinstance(verdict, dict) or set(verdict) != set(names):
        return None
    if not all(isinstance(value, bool) for value in verdict.values()):
        return None
    return verdict


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """``{"is_correct": false, "is_correct": true}`` is two verdicts, and Python would quietly take the last."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)
