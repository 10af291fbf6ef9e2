import asyncio

import pytest

from data_filters.mcq_rewrite import RewriteMcq

ROW = {"prompt": "Which of the following is the sum of 1 and 3?\nA. 5\nB. 4", "answer": "B"}
GOOD = {"question": "What is the sum of 1 and 3?", "answer": "4"}


def run(proposal, solved=None, row=ROW):
    seen = []

    async def rewrite(given):
        seen.append(given)
        return proposal

    async def solve(given):
        seen.append(given)
        return solved

    conversion = asyncio.run(RewriteMcq(rewrite, solve if solved is not None else None).convert(row))
    return conversion, seen


def test_a_good_rewrite_becomes_a_free_response_problem():
    conversion, seen = run(GOOD, solved="$4$")
    assert conversion.verdict.reason == "rewritten"
    assert (conversion.row["prompt"], conversion.row["answer"]) == (GOOD["question"], "4")
    assert "answer" not in seen[1]  # whoever solves it has seen neither answer nor options
    assert "meta" not in seen[1]


@pytest.mark.parametrize(
    ("proposal", "solved", "reason"),
    [
        (None, None, "rewrite_refused"),
        ({**GOOD, "answer": "5"}, None, "rewrite_changed_answer"),
        ({**GOOD, "question": "Which one is the sum?"}, None, "rewrite_needs_options"),
        ({**GOOD, "question": "What is the sum? A. 5 B. 4"}, None, "rewrite_needs_options"),
        ({**GOOD, "question": "Show that 1 and 3 make 4."}, None, "rewrite_gives_answer"),
        (GOOD, "5", "rewrite_not_derivable"),
    ],
)
def test_a_rewrite_that_cannot_be_believed_leaves_the_row_as_it_was(proposal, solved, reason):
    conversion, _ = run(proposal, solved)
    assert (conversion.verdict.reason, conversion.row) == (reason, ROW)


def test_rules_come_first_and_text_answers_are_not_sent():
    for prompt in ("What is 1 + 3?\nA. 5\nB. 4", "Which city?\nA. Rome\nB. Paris"):
        _, seen = run(GOOD, row={"prompt": prompt, "answer": "B"})
        assert seen == []


def test_a_number_inside_a_longer_one_does_not_give_the_answer_away():
    assert run({**GOOD, "question": "What is the sum of 1 and 3? There are 14 balls."})[0].verdict.reason == "rewritten"
