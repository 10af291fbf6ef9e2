import pytest

from data_filters.redundancy import Redundant, overlap
from sailrl.errors import ConfigError


def test_overlap_is_the_share_of_the_thought_found_in_the_answer():
    # thought: a a b c (4 tokens); the answer has one a and one b: 2 / 4
    assert overlap("a a b c", "B a d") == 0.5
    # measured against the shorter of the two it would be 2 / 3
    assert overlap("", "a") == 0.0


def test_a_thought_that_only_repeats_the_answer_is_dropped():
    row = {"response": "<think>The answer is 4</think>The answer is 4 \\boxed{4}"}
    assert Redundant()(row).reason == "redundant"
    assert Redundant()(row).evidence == {"overlap": 1.0}


def test_a_long_thought_with_a_short_answer_stays():
    row = {"response": "<think>First 3 + 1 is 4, then I check 4 - 1 = 3, so it holds: 4</think>\\boxed{4}"}
    assert Redundant()(row).keep


def test_the_threshold_decides():
    row = {"response": "<think>a b c d</think>a b"}
    assert Redundant(threshold=0.51)(row).keep
    assert not Redundant(threshold=0.5)(row).keep
    with pytest.raises(ConfigError):
        Redundant(threshold=0.0)


@pytest.mark.parametrize("response", ["", "\\boxed{4}", "<think> </think>4", "<think>open", None])
def test_without_a_thought_there_is_nothing_to_compare(response):
    assert Redundant()({"response": response}).reason == "no_thought"
