import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_filters.rejection import Rejection
from sailrl.errors import ConfigError, DataError
from sailrl.types import Score


def score(value):
    return {"value": value, "status": "failed" if value is None else "scored", "reason": ""}


def rollout(response="<think>two and two</think>\\boxed{4}", problem="p", boxed=1.0, form=1.0, **more):
    scores = {"boxed": score(boxed), "think_format": score(form), **more.pop("scores", {})}
    return {"problem_id": problem, "prompt": "2 + 2?", "response": response, "scores": scores, **more}


def words(n, tag="w"):
    return " ".join(f"{tag}{i}" for i in range(n))


def test_only_right_well_formed_finished_and_scored_rollouts_are_admissible():
    reject = Rejection()
    assert reject(rollout()).reason == "admissible"
    assert reject(rollout(boxed=0.0)).reason == "wrong"
    assert reject(rollout(form=0.0)).reason == "malformed"
    assert reject(rollout(boxed=None)).reason == "not_scored"
    assert reject(rollout(finish_reason="length")).reason == "cut"
    assert Rejection(well_formed=None)(rollout(form=0.0)).keep


def test_a_judge_can_be_asked_and_its_silence_is_not_a_verdict():
    reject = Rejection(sound="thinking", sound_from=2 / 3)
    assert reject(rollout(scores={"thinking": score(2 / 3)})).keep
    assert reject(rollout(scores={"thinking": score(1 / 3)})).reason == "unsound"
    assert reject(rollout(scores={"thinking": Score(None, "failed", "unreachable")})).reason == "not_scored"


def test_the_total_reward_can_decide():
    assert Rejection(correct="reward", well_formed=None)({**rollout(), "reward": 0.6 + 0.3 + 0.1}).keep
    assert Rejection(correct="reward", correct_from=0.9, well_formed=None)({**rollout(boxed=0.0), "reward": 0.9}).keep


def test_length_near_the_median_wins():
    # lengths 2, 10, 11, 12, 50: the median is 11. The longest or the shortest would be a different row.
    rows = [rollout(words(n)) for n in (2, 10, 11, 12, 50)]
    assert Rejection().select(rows).indexes == [2]
    assert Rejection(at_most=3).select(rows).indexes == [1, 2, 3]


def test_the_median_is_of_the_admissible_rollouts_only():
    # right ones: 2, 3, 4 (median 3). With the wrong long ones the median would be 100 and 4 would win.
    rows = [rollout(words(n)) for n in (2, 3, 4)] + [rollout(words(n), boxed=0.0) for n in (100, 101, 102, 103)]
    assert Rejection().select(rows).indexes == [1]


def test_token_counts_are_used_where_rows_have_them():
    rows = [rollout(words(n), response_tokens=t) for n, t in ((10, 5), (11, 6), (12, 90))]
    assert Rejection().select(rows).indexes == [1]
    rows[1]["response_tokens"] = None
    with pytest.raises(DataError, match="two units"):
        Rejection().select(rows)


def test_ranks_apply_in_order():
    rows = [
        rollout(words(9), scores={"judge": score(0.5)}),
        rollout("a b c a b c a b c", scores={"judge": score(1.0)}),
        rollout(words(9, "x"), scores={"judge": score(1.0)}),
    ]
    by_judge = Rejection(sound="judge", sound_from=0.5, rank=("judge_score", "least_repetition"))
    assert by_judge.select(rows).indexes == [2]
    assert Rejection(sound="judge", sound_from=0.5, rank=("judge_score",), at_most=2).select(rows).indexes == [1, 2]


def test_each_problem_has_its_own_quota_and_every_row_is_accounted_for():
    rows = [rollout(words(5, f"{p}{i}"), problem=p) for p in "ab" for i in range(3)]
    rows += [rollout(problem="c", boxed=0.0), rollout(words(5, "a0"), problem="a")]
    selection = Rejection(at_most=2).select(rows)
    assert selection.reasons == {"chosen": 4, "outranked": 2, "wrong": 1, "duplicate": 1}
    assert sum(selection.reasons.values()) == len(rows)


def test_rows_without_an_id_are_grouped_by_their_question():
    rows = [
        {**rollout(words(4, t), problem=None), "prompt": p} for p, t in (("1 + 1?", "a"), ("1 + 1? ", "b"), ("3?", "c"))
    ]
    assert len(Rejection(at_most=1).select(rows).indexes) == 2  # one of each question


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 12), st.booleans()), max_size=25), st.integers(0, 9))
def test_the_choice_depends_on_rows_and_seed_but_not_on_their_order(specs, shuffle):
    rows = [rollout(words(n, problem), problem=problem, boxed=float(right)) for problem, n, right in specs]
    shuffled = rows[:]
    random.Random(shuffle).shuffle(shuffled)
    reject = Rejection(at_most=2, seed=3)

    def picked(given_rows):
        return sorted(
            (r["problem_id"], r["response"]) for r in map(given_rows.__getitem__, reject.select(given_rows).indexes)
        )

    assert picked(rows) == picked(shuffled)


def test_the_seed_breaks_ties():
    rows = [rollout(words(5, tag)) for tag in "abcdefgh"]
    assert len({tuple(Rejection(seed=s).select(rows).indexes) for s in range(20)}) > 1


def test_missing_scores_name_what_is_there():
    with pytest.raises(DataError, match=r"'accuracy'.*'boxed', 'think_format'"):
        Rejection(correct="accuracy")(rollout())
    with pytest.raises(DataError, match="response"):
        Rejection()({"id": "x", "scores": {}})


@pytest.mark.parametrize("args", [{"at_most": 0}, {"rank": ("longest",)}, {"rank": ("judge_score",)}])
def test_settings_that_cannot_work_are_refused(args):
    with pytest.raises(ConfigError):
        Rejection(**args)
