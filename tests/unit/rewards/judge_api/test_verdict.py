"""One JSON object with exactly the booleans asked for, or nothing."""

from __future__ import annotations

import pytest

from rewards.judge_api.verdict import parse_verdict, verdict_schema
from tests.fakes.clock import processor_s

ONE = ("is_correct",)


@pytest.mark.parametrize(
    "reply",
    [
        '{"is_correct": true}',
        '  {"is_correct":\n  true}\n',
        '```json\n{"is_correct": true}\n```',
        '```\n{"is_correct": true}```',
        '<think>The box says 4. {"is_correct": false}?</think>\n{"is_correct": true}',
    ],
)
def test_one_object_is_read_bare_fenced_or_after_reasoning(reply: str) -> None:
    assert parse_verdict(reply, ONE) == {"is_correct": True}


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "true",
        "[true]",
        "Correct.",
        '{"is_correct": "true"}',
        '{"is_correct": 1}',
        '{"is_correct": null}',
        '{"is_correct": True}',
        "{'is_correct': true}",
        '{"correct": true}',
        "{}",
        '{"is_correct": true, "confidence": 1}',
        '{"is_correct": true, "is_confident": false}',
        '{"is_correct": true}{"is_correct": true}',
        '{"is_correct": true}\n{"is_correct": false}',
        '[{"is_correct": true}]',
        '{"is_correct": false, "is_correct": true}',
        '{"verdict": {"is_correct": true}}',
        'The author wrote {"is_correct": true}',
        '{"is_correct": true} is what the author wrote',
        '```json\n{"is_correct": true}\n```\n```json\n{"is_correct": false}\n```',
        '{"is_correct": tr',
        '<think>{"is_correct": true}',
        '{"is_correct": true',
    ],
)
def test_anything_else_is_not_a_verdict(reply: str) -> None:
    assert parse_verdict(reply, ONE) is None


def test_all_booleans_of_a_verdict_are_needed() -> None:
    both = ("is_judgment_correct", "requires_reasoning")
    assert parse_verdict('{"requires_reasoning": false, "is_judgment_correct": true}', both) == {
        "is_judgment_correct": True,
        "requires_reasoning": False,
    }
    assert parse_verdict('{"requires_reasoning": false}', both) is None


@pytest.mark.parametrize(
    "reply", ["[" * 100_000, '{"a":' * 100_000, " " * 1_000_000, "`" * 1_000_000, "</think>" * 100_000]
)
def test_hostile_replies_cost_no_time_and_no_exception(reply: str) -> None:
    assert parse_verdict(reply, ONE) is None
    assert processor_s(lambda: parse_verdict(reply, ONE), limit_s=0.5) < 0.5


def test_the_schema_is_strict() -> None:
    assert verdict_schema(("a", "b")) == {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
