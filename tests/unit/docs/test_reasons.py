"""docs/rewards.md explains every reason that a reward gives, and no other."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from docs.generate.reasons import REASONS
from docs.generate.rewards_page import COMBINES, PARTS
from rewards.boxed import BoxedAnswer
from rewards.think_format import ThinkFormat
from sailrl.data.contract import parse_problem
from sailrl.types import STATUSES, Score

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data"
GIVES_A_REASON = {"Score", "Outcome", "UnusableGold", "UnusableImage", "Unanswered", "RequestFailed"}
"""Calls whose texts are reasons and statuses."""


def _words(source: str) -> tuple[set[str], set[str]]:
    """All texts of a source, and those that are given to a call that takes a reason."""
    tree = ast.parse(source)
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") in GIVES_A_REASON]
    given = [value for call in calls for value in (*call.args, *(k.value for k in call.keywords if k.arg == "reason"))]
    everything = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return everything, {
        value.value for value in given if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }


def _sources() -> list[str]:
    files = [
        *(ROOT / "rewards").rglob("*.py"),
        *(ROOT / "sailrl" / "scoring").rglob("*.py"),
        ROOT / "sailrl/data/rows.py",
    ]
    return [path.read_text(encoding="utf-8") for path in files]


def test_every_reason_in_the_source_is_explained() -> None:
    given = set().union(*(_words(source)[1] for source in _sources())) - set(STATUSES)
    explained = {word.partition("<")[0] for reasons in REASONS.values() for word in reasons}
    assert len(given) > 40
    assert sorted(given - explained) == [], "explain them in docs/generate/reasons.py, then run python -m docs.generate"


def test_every_explained_reason_is_in_the_source() -> None:
    texts = "\n".join(set().union(*(_words(source)[0] for source in _sources())))
    words = {word.partition("<")[0] for reasons in REASONS.values() for word in reasons} - {""}
    built = {f"{right}_{decision}" for right in ("rightly", "wrongly") for decision in ("think", "direct")}
    assert not {word for word in words - built if word not in texts}


@pytest.mark.parametrize(
    ("reward", "file"),
    [
        ("boxed", "boxed_labelled.jsonl"),
        ("boxed", "verdict_kinds.jsonl"),
        ("think_format", "format_labelled.jsonl"),
        ("think_format", "verdict_kinds.jsonl"),
    ],
)
def test_every_reason_that_a_labelled_row_gets_is_explained_with_its_value(reward: str, file: str) -> None:
    judge = {"boxed": BoxedAnswer().fast, "think_format": ThinkFormat().fast}[reward]
    seen: dict[str, set[str]] = {}
    for line in (DATA / file).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        score = judge(row["response"], parse_problem(row, where=file, need_prompt=False, folder=DATA))
        if score is not None:
            seen.setdefault(score.reason, set()).add(_given(score))
    assert len(seen) > 2
    assert {
        reason: REASONS[reward][reason][0] for reason in seen if not seen[reason] <= _told(REASONS[reward][reason][0])
    } == {}


def _given(score: Score) -> str:
    return score.status if score.value is None else f"{score.value:g}"


def _told(gives: str) -> set[str]:
    return set(gives.split(" or "))


def test_the_walk_sees_a_reason_in_each_form() -> None:
    assert _words("Score(0.0, reason='a')\nScore(None, 'failed', 'b')\nf('c')")[1] == {"a", "failed", "b"}


def test_every_reward_of_the_page_has_its_reasons() -> None:
    assert {*PARTS, *COMBINES, "any reward", "judges"} == set(REASONS)
