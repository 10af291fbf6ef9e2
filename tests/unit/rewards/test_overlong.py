"""DAPO's soft overlong punishment, equation 13."""

from __future__ import annotations

import pytest

from rewards.overlong import SoftOverlong
from sailrl.errors import ConfigError
from sailrl.types import Problem, Score

PROBLEM = Problem(prompt="?")


@pytest.mark.parametrize(
    ("tokens", "value"),
    [
        (0, 0.0),
        (16384, 0.0),  # exactly the expected length is free
        (16385, -1 / 4096),
        (18432, -0.5),  # half-way: (16384 - 18432) / 4096
        (20480, -1.0),
        (20481, -1.0),
        (10**9, -1.0),  # capped
    ],
)
def test_the_punishment_grows_linearly_over_the_buffer_and_stops_at_minus_one(tokens: int, value: float) -> None:
    got = SoftOverlong(max_response_tokens=20480, buffer_tokens=4096)("...", PROBLEM, response_tokens=tokens)
    assert got.value == pytest.approx(value)


def test_the_text_itself_does_not_matter() -> None:
    reward = SoftOverlong(100, 20)
    assert reward("", PROBLEM, response_tokens=90) == reward("word " * 1000, PROBLEM, response_tokens=90)


def test_without_a_token_count_there_is_no_score() -> None:
    assert SoftOverlong(100, 20)("text", PROBLEM) == Score(None, "unscorable", "no_token_count")


def test_a_buffer_as_long_as_the_response_is_refused_with_both_numbers_and_a_fix() -> None:
    # SAIL-VL2 generates 4,096 tokens; DAPO's own buffer of 4,096 would punish every one of them
    with pytest.raises(ConfigError, match=r"4096 .* 4096.*would punish every token.*819"):
        SoftOverlong(max_response_tokens=4096, buffer_tokens=4096)
    SoftOverlong(max_response_tokens=4096, buffer_tokens=4095)


@pytest.mark.parametrize("buffer", [0, -1])
def test_an_empty_buffer_is_refused(buffer: int) -> None:
    with pytest.raises(ConfigError, match="at least 1 token"):
        SoftOverlong(max_response_tokens=100, buffer_tokens=buffer)
