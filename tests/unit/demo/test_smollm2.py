"""The sums that the real model learns. The model itself is tried in tests/integration/test_smollm2.py."""

from __future__ import annotations

from sailrl.demo.smollm2 import rows


def _asked(split: str) -> set[str]:
    return {row["prompt"][-1]["content"] for row in rows(2000, seed=1, split=split)}  # type: ignore[arg-type]


def test_no_sum_of_training_is_held_out():
    train, held_out = _asked("train"), _asked("eval")
    assert len(held_out) == 29  # of the 144 pairs, numbers 0, 5, 10, ... 140
    assert len(train) == 144 - 29
    assert not train & held_out


def test_every_row_ends_with_its_question_and_has_its_sum():
    for row in rows(200, seed=2):
        assert [turn["role"] for turn in row["prompt"]] == ["user", "assistant", "user"]
        words = row["prompt"][-1]["content"].split()
        assert row["answer"] == str(int(words[2]) + int(words[4].rstrip("?.")))  # "What is 7 plus 5?": words 2 and 4
