import itertools
import math
import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_filters.pass_at_k import InvalidCounts, PassAtK, PassAtKByTask, pass_at_k
from sailrl.errors import ConfigError, DataError
from sailrl.types import Filter, Score


def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_answer():
    # 5 samples, 2 right, draw 3: C(3,3) / C(5,3) = 1/10 of the draws hold none, so 0.9
    assert pass_at_k(5, 2, 3) == 0.9
    # the formula that draws with replacement must differ: 1 - (3/5)^3 = 0.784
    assert pass_at_k(5, 2, 3) != pytest.approx(1 - (1 - 2 / 5) ** 3)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_equals_counting_every_draw(counts):
    n, c, k = counts
    draws = list(itertools.combinations([1] * c + [0] * (n - c), k))
    assert pass_at_k(n, c, k) == float(Fraction(sum(map(any, draws)), len(draws)))


def test_pass_at_1_is_exactly_the_accuracy():
    assert all(pass_at_k(n, c, 1) == c / n for n in range(1, 60) for c in range(n + 1))


def test_literal_pass_at_4_is_1_for_everything_ever_solved_with_4_samples():
    assert [pass_at_k(4, c, 4) for c in range(5)] == [0.0, 1.0, 1.0, 1.0, 1.0]


def test_large_n_is_computed_without_overflow_and_without_cancellation():
    assert pass_at_k(10**9, 1, 1) == 1e-9
    assert pass_at_k(10**6, 10**6 // 2, 10**5) == 1.0
    # 1 - C(n-c,k)/C(n,k) at n = 10^6, c = k = 1200, against exact whole numbers (the sum-of-logs branch)
    n, m = 10**6, 1200
    exact = Fraction(math.comb(n, m) - math.comb(n - m, m), math.comb(n, m))
    assert pass_at_k(n, m, m) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize(
    ("n", "c", "k", "numbers"),
    [
        (4, 5, 1, ("4", "5")),
        (2, 1, 4, ("2", "4")),
        (-1, 0, 1, ("-1", "0")),
        (4, -2, 1, ("4", "-2")),
        (4, 1, 0, ("4", "0")),
    ],
)
def test_contradicting_counts_are_refused_with_both_numbers(n, c, k, numbers):
    with pytest.raises(InvalidCounts) as caught:
        pass_at_k(n, c, k)
    assert all(number in str(caught.value) for number in numbers)
    assert isinstance(caught.value, DataError)
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_counts_must_be_whole_numbers():
    with pytest.raises(TypeError):
        pass_at_k(4, 1.5, 2)  # type: ignore[arg-type]


def test_reasoning_tasks_keep_one_to_three_right_answers_of_four():
    reasons = [PassAtK(k=4)({"n": 4, "c": c}).reason for c in range(5)]
    assert reasons == ["impossible", "kept", "kept", "kept", "too_easy"]


def test_perception_tasks_drop_only_what_is_always_right():
    reasons = [PassAtK(k=4, drop_impossible=False)({"n": 4, "c": c}).reason for c in range(5)]
    assert reasons == ["kept", "kept", "kept", "kept", "too_easy"]


def test_the_filter_decides_on_accuracy_and_not_on_literal_pass_at_4():
    verdict = PassAtK(k=4)({"n": 4, "c": 1})
    assert verdict.keep
    assert verdict.evidence == {"n": 4, "c": 1, "accuracy": 0.25, "pass@4": 1.0}


def test_a_band_drops_its_own_ends():
    band = PassAtK(k=4, keep=(0.25, 0.75))
    assert [band({"n": 4, "c": c}).reason for c in range(5)] == [
        "impossible",
        "too_hard",
        "kept",
        "too_easy",
        "too_easy",
    ]


def test_unscored_samples_leave_n_and_are_never_a_quiet_zero():
    samples = [1.0, None, Score(1.0), {"value": 1, "status": "scored"}, Score(None, "failed"), True, float("nan")]
    verdict = PassAtK(k=4)({"samples": samples})
    # 4 scored, 4 right: always solved. Counting the 3 unscored ones as 0 would give 4/7 and keep the row.
    assert (verdict.reason, verdict.evidence["n"], verdict.evidence["c"]) == ("too_easy", 4, 4)


def test_fewer_scored_samples_than_k_give_no_decision():
    verdict = PassAtK(k=4)({"samples": [1, 0, 1, None]})
    assert (verdict.keep, verdict.reason, verdict.evidence["pass@4"]) == (False, "too_few_samples", None)
    assert PassAtK(k=4)({"samples": []}).reason == "too_few_samples"
    assert PassAtK(k=4)({"n": 0, "c": 0}).reason == "too_few_samples"


def test_more_samples_than_k_sharpen_the_estimate():
    # 16 samples, 15 right: accuracy 0.9375 < 1 stays, although 4 of them could well have been all right
    assert PassAtK(k=4)({"n": 16, "c": 15}).keep


def test_partial_scores_count_as_right_from_a_threshold():
    row = {"samples": [0.9, 0.9, 0.1, 1.0]}
    assert PassAtK(k=4)(row).evidence["c"] == 1
    assert PassAtK(k=4, correct_from=0.9)(row).evidence["c"] == 3
    assert 0.6 + 0.3 + 0.1 < 1.0  # in floats; it is a full reward all the same
    assert PassAtK(k=1)({"samples": [0.6 + 0.3 + 0.1]}).evidence["c"] == 1


def test_samples_may_be_a_bare_list_or_have_another_name():
    assert PassAtK(k=4)([1, 0, 0, 0]).keep
    assert PassAtK(k=4)({"rewards": [1, 0, 0, 0]}).keep
    assert PassAtK(k=4)({"n": 4, "c": 1, "scores": {"boxed": {"value": 1.0}}}).keep  # the scores of one response


@pytest.mark.parametrize(
    "row",
    [
        {"id": "a"},
        {"n": 4},
        {"n": 4, "c": 5},
        {"n": 4, "c": 1.5},
        {"n": 4, "c": True},
        {"n": float("nan"), "c": 1},
        {"n": 4, "c": 2, "samples": [1, 1, 1, 0]},
        {"samples": "1010"},
        {"samples": [1, "yes"]},
        {"samples": [{"score": 1}]},
    ],
)
def test_rows_without_usable_evidence_are_refused(row):
    with pytest.raises(DataError):
        PassAtK()(row)


@pytest.mark.parametrize(
    "args",
    [
        {"k": 0},
        {"k": True},
        {"keep": (0.5, 0.5)},
        {"keep": (-0.1, 1)},
        {"keep": (0, 1.1)},
        {"keep": (0.5,)},
        {"keep": (0.2, 1.0), "drop_impossible": False},
    ],
)
def test_settings_that_contradict_themselves_are_refused(args):
    with pytest.raises(ConfigError):
        PassAtK(**args)


def test_a_filter_is_a_filter():
    assert isinstance(PassAtK(), Filter)
    assert PassAtK(keep=[0.0, 1.0])({"n": 4, "c": 2}).keep  # lists, as YAML gives them


@pytest.mark.parametrize(
    ("task", "kept"),
    [
        ("math", False),
        ("choice", False),
        (None, False),
        ("novel", False),
        ("ocr", True),
        ("Count", True),
        ("maze", True),
    ],
)
def test_the_task_chooses_the_rule(task, kept):
    by_task = PassAtKByTask(rules={"maze": "perception"})
    verdict = by_task({"n": 4, "c": 0, "task": task})
    assert verdict.keep == kept
    assert verdict.evidence["rule"] == ("perception" if kept else "reasoning")
    assert by_task({"n": 4, "c": 4, "task": task}).reason == "too_easy"


def test_unknown_rules_are_refused():
    with pytest.raises(ConfigError, match="sometimes"):
        PassAtKByTask(rules={"ocr": "sometimes"})  # type: ignore[dict-item]


@given(n=st.integers(4, 40), data=st.data())
def test_perception_keeps_whatever_reasoning_keeps(n, data):
    row = {"n": n, "c": data.draw(st.integers(0, n))}
    if PassAtK()(row).keep:
        assert PassAtK(drop_impossible=False)(row).keep
