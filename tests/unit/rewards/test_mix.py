"""The combining rules, on numbers that a pencil can check."""

from __future__ import annotations

import pytest

from rewards.mix import Cascade, Weighted
from sailrl.errors import ConfigError, RewardError
from sailrl.types import Combine, Score


def scores(**values: float) -> dict[str, Score]:
    return {name: Score(value) for name, value in values.items()}


def cascade_scores(boxed: float, thinking: float, judging: float, think_format: float) -> dict[str, Score]:
    return scores(boxed=boxed, thinking=thinking, judging=judging, think_format=think_format)


@pytest.mark.parametrize("rule", [Weighted(), Cascade()])
def test_both_rules_fulfil_the_combine_protocol(rule: object) -> None:
    assert isinstance(rule, Combine)


def test_weighted_is_the_sum_of_weight_times_value() -> None:
    # 0.6 * 1 + 0.3 * 2/3 + 0.1 * 1 = 0.6 + 0.2 + 0.1
    got = Weighted()(scores(boxed=1, thinking=2 / 3, fmt=1), {"boxed": 0.6, "thinking": 0.3, "fmt": 0.1})
    assert got.value == pytest.approx(0.9)
    assert got.status == "scored"


def test_weighted_adds_a_penalty_on_top() -> None:
    # 0.9 * 1 + 0.1 * 1 + 0.5 * (-0.4)
    got = Weighted()(scores(boxed=1, fmt=1, overlong=-0.4), {"boxed": 0.9, "fmt": 0.1, "overlong": 0.5})
    assert got.value == pytest.approx(0.8)


def test_weighted_ignores_scores_that_have_no_weight() -> None:
    assert Weighted()(scores(boxed=1, length=-7), {"boxed": 1.0}).value == 1.0


def test_weighted_does_not_depend_on_the_order_of_the_parts() -> None:
    parts = {"a": 0.1, "b": 0.2, "c": 0.3, "d": -0.6}
    backwards = dict(reversed(list(parts.items())))
    ones = scores(a=1, b=1, c=1, d=1)
    assert Weighted()(ones, parts).value == Weighted()(ones, backwards).value
    assert sum(parts.values()) != sum(backwards.values())  # the plain sum does


@pytest.mark.parametrize("status", ["unscorable", "failed", "timed_out"])
@pytest.mark.parametrize("rule", [Weighted(), Cascade(answer="boxed", think="judge", judging=None, format="fmt")])
def test_an_unscored_part_makes_the_reward_unscored_and_is_named(rule: Combine, status: str) -> None:
    parts = {**scores(boxed=1, fmt=1), "judge": Score(None, status, "unreachable")}  # type: ignore[arg-type]
    got = rule(parts, {"boxed": 0.6, "judge": 0.3, "fmt": 0.1})
    assert got == Score(None, status, "judge:unreachable")  # type: ignore[arg-type]


def test_a_part_of_weight_zero_is_watched_and_cannot_unscore_the_reward() -> None:
    parts = {"boxed": Score(1.0), "judge": Score(None, "failed", "unreachable")}
    assert Weighted()(parts, {"boxed": 1.0, "judge": 0.0}).value == 1.0
    assert Weighted()(parts, {"boxed": 1.0, "judge": 0.1}).value is None


@pytest.mark.parametrize("rule", [Weighted(), Cascade()])
def test_a_part_that_nobody_scored_is_an_error_that_names_it(rule: Combine) -> None:
    with pytest.raises(RewardError, match="judging"):
        rule(scores(boxed=1, thinking=1, think_format=1), {"boxed": 0.9, "judging": 0.1})


def test_cascade_gives_the_papers_worked_example() -> None:
    # SAIL-RL figure 3: thinking (1+1+0)/3, judging 1, format 1, answer 0: 0.9 * (1 * 2/3 * 0) + 0.1 * 1
    got = Cascade()(cascade_scores(boxed=0, thinking=(1 + 1 + 0) / 3, judging=1, think_format=1), {})
    assert got.value == pytest.approx(0.1)


def test_cascade_is_a_product_and_not_the_mean_of_three() -> None:
    # 0.9 * (1 * 2/3 * 1) + 0.1 * 1 = 0.7; the mean would give 0.9 * (1 + 2/3 + 1) / 3 + 0.1 = 0.9
    got = Cascade()(cascade_scores(boxed=1, thinking=2 / 3, judging=1, think_format=1), {})
    assert got.value == pytest.approx(0.7)


@pytest.mark.parametrize("zero", ["boxed", "thinking", "judging"])
def test_any_factor_of_zero_leaves_only_the_format(zero: str) -> None:
    parts = cascade_scores(1, 1, 1, 1) | scores(**{zero: 0})
    assert Cascade()(parts, {}).value == pytest.approx(0.1)


def test_all_ones_give_one_and_all_zeros_give_zero() -> None:
    assert Cascade()(cascade_scores(1, 1, 1, 1), {}).value == pytest.approx(1.0)
    assert Cascade()(cascade_scores(0, 0, 0, 0), {}).value == 0.0


def test_an_unscored_factor_unscores_the_cascade_even_where_another_factor_is_zero() -> None:
    parts = cascade_scores(0, 1, 1, 1) | {"thinking": Score(None, "timed_out", "deadline")}
    assert Cascade()(parts, {}) == Score(None, "timed_out", "thinking:deadline")


def test_cascade_adds_penalties_with_their_weight_and_ignores_the_weights_of_its_own_parts() -> None:
    # 0.9 * 1 + 0.1 * 1 + 0.5 * (-1); the weight 7 of boxed has no meaning here
    parts = cascade_scores(1, 1, 1, 1) | scores(overlong=-1)
    assert Cascade()(parts, {"boxed": 7.0, "overlong": 0.5}).value == pytest.approx(0.5)


def test_cascade_without_the_optional_factors_is_answer_and_format() -> None:
    rule = Cascade(think=None, judging=None, alpha=0.8)
    assert rule(scores(boxed=1, think_format=0), {}).value == pytest.approx(0.8)


def test_cascade_refuses_a_share_outside_zero_to_one_and_a_part_used_twice() -> None:
    with pytest.raises(ConfigError, match=r"1\.5"):
        Cascade(alpha=1.5)
    with pytest.raises(ConfigError, match="boxed"):
        Cascade(answer="boxed", think="boxed")
