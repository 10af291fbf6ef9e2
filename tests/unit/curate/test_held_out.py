"""A share of the training problems is kept for evaluation."""

from __future__ import annotations

import pytest

from sailrl.curate.held_out import hold_out
from sailrl.errors import DataError
from sailrl.types import Problem


def test_held_out_problems_keep_one_question_together_in_any_order() -> None:
    problems = [Problem(f"{number // 2} + 1", id=str(number)) for number in range(40)]  # 20 questions, twice each
    learned, held = hold_out(problems, 0.1)
    assert len(held) == 4  # 2 of 20 questions
    assert not {problem.prompt for problem in learned} & {problem.prompt for problem in held}
    assert {problem.id for problem in hold_out(problems[::-1], 0.1)[1]} == {problem.id for problem in held}
    assert len(hold_out(problems[:4], 0.001)[1]) == 2  # at least one question
    assert len(hold_out(problems[:4], 0.999)[0]) == 2
    with pytest.raises(DataError, match="they are 1 question"):
        hold_out(problems[:2], 0.5)
