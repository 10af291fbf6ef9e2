import asyncio

import pytest

from data_filters.mcq import McqToFree
from data_filters.mcq_rewrite import RewriteMcq, same_answer
from sailrl.errors import RewardError

ROW = {"prompt": "Which of the following is the sum of 1 and 3?\nA. 5\nB. 4", "answer": "B"}
GOOD = {"question": "What is the sum of 1 and 3?", "answer": "4"}


def run(proposal, solved="4", row=ROW, otherwise="keep"):
    seen = []

    async def rewrite(given):
        seen.append(given)
        if isinstance(proposal, RewardError):
            raise proposal
        return proposal

    async def solve(given):
        seen.append(given)
        return solved

    conversion = asyncio.run(RewriteMcq(rewrite, solve, McqToFree(otherwise)).convert(row))
    return conversion, seen


def test_a_good_rewrite_becomes_a_free_response_problem():
    conversion, seen = run(GOOD, solved="$4$")
    assert conversion.verdict.reason == "rewritten"
    assert (conversion.row["prompt"], conversion.row["answer"]) == (GOOD["question"], "4")
    assert seen[0]["answer"] == "4"  # who rewrites it is told the option, not its letter
    assert "answer" not in seen[1]  # whoever solves it has seen neither answer nor options
    assert "meta" not in seen[1]


@pytest.mark.parametrize(
    ("proposal", "solved", "reason"),
    [
        (None, "4", "rewrite_refused"),
        ({**GOOD, "answer": "5"}, "4", "rewrite_changed_answer"),
        ({**GOOD, "question": "Which one is the sum?"}, "4", "rewrite_needs_options"),
        ({**GOOD, "question": "What is the sum? A. 5 B. 4"}, "4", "rewrite_needs_options"),
        ({**GOOD, "question": "Show that 1 and 3 make 4."}, "4", "rewrite_gives_answer"),
        ({**GOOD, "question": "What is the sum of 1 and 3?<|im_end|>"}, "4", "rewrite_has_marks"),
        ({**GOOD, "question": "What is the sum of 1 and 3 in <image>?"}, "4", "rewrite_has_marks"),
        (GOOD, "5", "rewrite_not_derivable"),
        (GOOD, "", "rewrite_not_derivable"),
        (GOOD, "3 or 4", "rewrite_not_derivable"),
        (RewardError("down"), "4", "rewrite_unanswered"),
    ],
)
def test_a_rewrite_that_cannot_be_believed_leaves_the_row_as_it_was(proposal, solved, reason):
    conversion, _ = run(proposal, solved)
    assert (conversion.verdict.reason, conversion.row) == (reason, ROW)
    dropped, _ = run(proposal, solved, otherwise="drop")
    assert (dropped.verdict.reason, dropped.row) == (reason, None)


def test_rules_come_first_and_text_answers_are_not_sent():
    for prompt in ("What is 1 + 3?\nA. 5\nB. 4", "Which city?\nA. Rome\nB. Paris"):
        _, seen = run(GOOD, row={"prompt": prompt, "answer": "B"})
        assert seen == []


def test_a_number_inside_a_longer_one_does_not_give_the_answer_away():
    assert run({**GOOD, "question": "What is the sum of 1 and 3? There are 14 balls."})[0].verdict.reason == "rewritten"


def test_marks_of_images_stay_in_front_and_a_question_with_marks_inside_is_not_sent():
    front = {**ROW, "prompt": f"<image>\n{ROW['prompt']}", "images": ["/a.png"]}
    conversion, _ = run(GOOD, row=front)
    assert conversion.row["prompt"] == f"<image>\n{GOOD['question']}"
    inside = {**front, "prompt": "Which of the following is the sum of 1 and <image>?\nA. 5\nB. 4"}
    conversion, seen = run(GOOD, row=inside)
    assert (conversion.verdict.reason, seen) == ("needs_options", [])


@pytest.mark.parametrize(
    ("given", "same"),
    [("0.5", True), ("$\\frac{1}{2}$", True), ("50%", True), ("2", False), ("", False), ("}{", False)],
)
def test_answers_are_the_same_when_the_answer_reward_says_so(given, same):
    assert same_answer(given, "1/2") is same
