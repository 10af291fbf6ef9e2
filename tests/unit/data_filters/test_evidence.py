import pytest

from data_filters.evidence import as_problem, gather
from data_filters.pass_at_k import PassAtK
from sailrl.errors import DataError


def scored(problem, value, response="r", **more):
    return {
        "id": problem,
        "prompt": f"question {problem}",
        "answer": "4",
        "response": response,
        "scores": {"boxed": {"value": value, "status": "scored"}},
        **more,
    }


def test_scored_rows_in_any_order_become_samples_per_problem():
    rows = [scored("a", 1.0), scored("b", 0.0), scored("a", None), scored("b", 0.0), scored("a", 0.0)]
    found = gather(rows)
    assert {name: (e.index, e.samples) for name, e in found.items()} == {
        "a": (0, [1.0, None, 0.0]),
        "b": (1, [0.0, 0.0]),
    }
    # two scored samples each: a has accuracy 1/2, b 0
    assert [PassAtK(k=2)({"samples": e.samples}).reason for e in found.values()] == ["kept", "impossible"]


def test_the_same_answer_twice_is_two_samples():
    assert len(gather([scored("a", 1.0, "same"), scored("a", 1.0, "same")])["a"].responses) == 2


def test_the_total_reward_can_be_the_evidence():
    assert gather([scored("a", 0.0, reward=0.9)], score="reward")["a"].samples == [0.9]


def test_a_problem_is_its_row_without_the_response():
    row = scored("a", 1.0, reward=1.0, response_tokens=7, meta={"split": "train"})
    assert as_problem(row) == {"id": "a", "prompt": "question a", "answer": "4", "meta": {"split": "train"}}
    assert as_problem({**row, "problem_id": "p"})["id"] == "p"


def test_rows_without_response_or_score_are_refused():
    with pytest.raises(DataError, match="row 1"):
        gather([scored("a", 1.0), {"id": "b"}])
    with pytest.raises(DataError, match="'format'"):
        gather([scored("a", 1.0)], score="format")
