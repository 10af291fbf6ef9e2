"""Rows that were labelled by hand before the rules were changed, and that the authors of the rules did not see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rewards.boxed import BoxedAnswer
from sailrl.types import Problem

_ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data" / "verdict_unseen.jsonl").read_text(encoding="utf-8").splitlines()
]


def _verdict(row: dict[str, Any]) -> bool:
    problem = Problem(
        answer=row["answer"],
        choices=row.get("choices", ()),
        task=row.get("task"),
        precision=row.get("precision"),
    )
    return BoxedAnswer()(row["response"], problem).value == 1


@pytest.mark.parametrize(("name", "agreement", "false_positives"), [("aimed", 0.95, 0.02), ("blind", 0.97, 0.01)])
def test_rows_that_the_rules_were_not_made_for_are_judged_as_a_person_does(
    name: str, agreement: float, false_positives: float
) -> None:
    """``aimed``: 67 kinds at weak spots; ``blind``: 112 everyday kinds."""
    rows = [row for row in _ROWS if row["set"] == name]
    wrong = [row for row in rows if _verdict(row) != bool(row["label"])]
    taken = [row for row in wrong if not row["label"]]
    assert len(rows) >= 480
    assert 1 - len(wrong) / len(rows) >= agreement, wrong[:5]
    assert len(taken) / sum(not row["label"] for row in rows) <= false_positives, taken
