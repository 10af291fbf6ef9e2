"""The repetition penalty on texts short enough to count by hand."""

from __future__ import annotations

import pytest

from rewards.repetition import Repetition
from sailrl.errors import ConfigError
from sailrl.types import Problem
from tests.fakes.clock import processor_s

PROBLEM = Problem(prompt="?")


def value(text: str, n: int = 3) -> float:
    score = Repetition(n)(text, PROBLEM)
    assert score.value is not None
    return score.value


def test_a_text_that_never_repeats_three_words_in_a_row_is_free() -> None:
    assert value("one two three four five") == 0.0
    assert value("one two one two") == 0.0  # two trigrams: "one two one", "two one two"


def test_repeated_n_grams_cost_their_share() -> None:
    # a b c a b c: trigrams abc bca cab abc, 3 of 4 unique
    assert value("a b c a b c") == pytest.approx(-0.25)


def test_a_loop_costs_almost_one_and_never_more() -> None:
    # 1,000 words give 998 trigrams, 1 unique
    assert value("wait " * 1000) == pytest.approx(-(1 - 1 / 998))


def test_case_and_white_space_do_not_hide_a_repetition() -> None:
    assert value("So it is\n\nso  IT is so it IS") == value("so it is so it is so it is") < 0


def test_an_operator_makes_a_difference() -> None:
    assert value("x + 1 = y", n=5) == 0.0
    assert value("x + 1 x - 1", n=2) == 0.0


def test_chinese_counts_per_character() -> None:
    # 我们再看 twice: 8 characters, 6 trigrams: 我们再 们再看 再看我 看我们 我们再 们再看, 4 unique
    assert value("我们再看我们再看") == pytest.approx(-2 / 6)
    assert value("first 我们 then") == 0.0


def test_short_texts_are_free() -> None:
    assert value("") == value("a") == value("a a") == 0.0
    assert value("a a", n=1) == pytest.approx(-0.5)


def test_the_fast_path_is_the_same_score() -> None:
    reward = Repetition()
    assert reward.fast("a b c a b c", PROBLEM) == reward("a b c a b c", PROBLEM)


@pytest.mark.parametrize("text", ["x" * 5_000_000, "x " * 1_000_000, "{" * 1_000_000, "数" * 1_000_000])
def test_megabytes_take_linear_time(text: str) -> None:
    assert processor_s(lambda: value(text), limit_s=3.0) < 3.0


def test_an_n_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="n is 0"):
        Repetition(0)
