"""Kinds of answers that a rule once judged wrong, several rows each: what a policy could learn to cheat with, and what
a right answer may look like."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from rewards.boxed import BoxedAnswer
from rewards.think_format import ThinkFormat
from sailrl.data.contract import parse_problem

_HERE = Path(__file__).parents[2] / "data" / "verdict_kinds.jsonl"
_HANDED_OVER = Path(__file__).parents[4] / "shared" / "cases" / "rewards.jsonl"
"""Rows that came with the issue; not in every checkout."""


def rows_by_kind(path: Path) -> dict[str, list[dict[str, Any]]]:
    kinds = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        row = json.loads(line)
        kinds[row["kind"]].append(row)
    return kinds


KINDS, HANDED_OVER = rows_by_kind(_HERE), rows_by_kind(_HANDED_OVER)
BOXED, FORMAT = BoxedAnswer(), ThinkFormat()


def wrong(rows: list[dict[str, Any]]) -> list[Any]:
    out = []
    for row in rows:
        reward = FORMAT if "format" in row else BOXED
        score = reward(row["response"], parse_problem(row, where="row", need_prompt=False))
        if score.value != row.get("format", row.get("label")):
            out.append((row["response"].rpartition("\\boxed")[2], row.get("answer"), score))
    return out


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_row_of_a_kind_gets_its_label(kind: str) -> None:
    assert len({row.get("format", row.get("label")) for row in KINDS[kind]}) == 2  # right and wrong answers
    assert not wrong(KINDS[kind])


@pytest.mark.skipif(not HANDED_OVER, reason="the rows handed over are not in this checkout")
@pytest.mark.parametrize("kind", sorted(KINDS.keys() & HANDED_OVER.keys()))
def test_every_row_handed_over_gets_its_label(kind: str) -> None:
    assert not wrong(HANDED_OVER[kind])
