"""From a judge's reply to a verdict, strictly: one JSON object with exactly the booleans and texts asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rewards.judge_api.text import UNPRINTABLE

Verdict: TypeAlias = dict[str, bool | str]
READER = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
"""Fingerprint of this file: other code may read another verdict from the same reply."""


def verdict_schema(names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON schema of a verdict, in the strict form that OpenAI, vLLM and SGLang enforce while decoding."""
    return {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in names} | {name: {"type": "string"} for name in texts},
        "required": [*names, *texts],
        "additionalProperties": False,
    }


def parse_verdict(reply: str, names: Sequence[str], texts: Sequence[str] = ()) -> Verdict | None:
    """The verdict, or None when the reply is anything but one.

    The object may stand in a code fence, or after the reasoning of a judge that thinks in ``<think>``; nothing else may
    be in the reply. If the reply were searched for an object, a forged verdict that the judge quotes would count.
    """
    text = reply.rpartition("</think>")[2].strip()
    if text.startswith("```") and text.endswith("```"):
        text = text.removeprefix("```").removeprefix("json").removesuffix("```")
    try:
        verdict = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        return None
    return verdict if is_verdict(verdict, names, texts) else None


def is_verdict(value: Any, names: Sequence[str], texts: Sequence[str] = ()) -> bool:
    """Whether a JSON value holds these booleans and these texts, printable ones, and nothing else."""
    return (
        isinstance(value, dict)
        and set(value) == {*names, *texts}
        and all(isinstance(value[name], bool) for name in names)
        and all(isinstance(value[name], str) and not UNPRINTABLE.search(value[name]) for name in texts)
    )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """``{"is_correct": false, "is_correct": true}`` is two verdicts, and Python would quietly take the last."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)
