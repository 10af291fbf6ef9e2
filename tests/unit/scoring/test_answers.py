"""A data set of which the rewards can use no answer is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sailrl.errors import DataError
from sailrl.scoring.answers import check_answers, evenly_spread
from sailrl.scoring.spec import PartSpec, ScoringSpec
from sailrl.types import Problem

BOXED, FORMAT = PartSpec("rewards.boxed:BoxedAnswer", {}, 0.9), PartSpec("rewards.think_format:ThinkFormat", {}, 0.1)
SPEC = ScoringSpec({"boxed": BOXED, "format": FORMAT})


def refused(spec: ScoringSpec, *answers: object) -> str:
    with pytest.raises(DataError) as error:
        check_answers(spec, [Problem("?", answer=answer) for answer in answers], "data.train")
    return str(error.value)


def test_problems_without_an_answer_are_refused_when_a_reward_needs_one() -> None:
    said = refused(SPEC, None, None)
    assert "data.train: none of the 2 problems that were tried can have a reward (2 x boxed:gold_missing)" in said
    assert "0 of them have an answer. Name the column with the answers: data.train.answer_field" in said


@pytest.mark.parametrize("answers", [("4", None), (4,), ([[1, 2, 3, 4]],), ("(B)",), ("x^2", None, None)])
def test_one_answer_that_can_be_used_is_enough(answers: tuple[object, ...]) -> None:
    check_answers(SPEC, [Problem("?", answer=answer) for answer in answers], "data.train")


def test_problems_without_a_usable_answer_are_counted_where_others_have_one() -> None:
    problems = [Problem("?", answer=answer) for answer in ("4", None, "", "5")]
    (said,) = check_answers(SPEC, problems, "data.train")
    assert said.startswith("data.train: 2 of the 4 problems that were tried get no reward")
    assert "(2 x boxed:gold_missing)" in said
    assert check_answers(SPEC, problems[:1], "data.train") == []


def test_rewards_that_need_no_answer_are_asked_for_none() -> None:
    check_answers(ScoringSpec({"format": PartSpec(FORMAT.use, {}, 1.0)}), [Problem("?")], "data.train")
    watched = ScoringSpec({"boxed": PartSpec(BOXED.use, {}, 0.0), "format": PartSpec(FORMAT.use, {}, 1.0)})
    check_answers(watched, [Problem("?")], "data.train")  # a part of weight 0 takes no reward away


def test_a_reward_that_asks_a_server_is_not_called(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(
        "class Judge:\n    async def __call__(self, response, problem):\n        raise AssertionError('called')\n"
    )
    judge = PartSpec(f"{tmp_path}/judge.py:Judge", {}, 1.0)
    check_answers(ScoringSpec({"judge": judge}), [Problem("?")], "data.train")
    both = ScoringSpec({"judge": PartSpec(judge.use, {}, 0.5), "boxed": PartSpec(BOXED.use, {}, 0.5)})
    assert "boxed:gold_missing" in refused(both, None)


def test_problems_are_taken_from_all_over_the_list() -> None:
    assert evenly_spread(range(100), 4) == [0, 25, 50, 75]
    assert evenly_spread(range(3), 4) == [0, 1, 2]
    assert evenly_spread([], 4) == []
