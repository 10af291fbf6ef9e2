import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_filters.length import BalanceLengths, LengthBounds, row_length
from sailrl.errors import ConfigError, DataError


def rows(lengths):
    return [{"response": "w " * n} for n in lengths]


def test_length_is_in_tokens_where_rows_have_them_and_in_words_otherwise():
    assert row_length({"response": "two words"}, "response") == 2
    assert row_length({"response": "two words", "response_tokens": 7}, "response") == 7
    assert row_length({"prompt": "我们 two"}, "prompt") == 3
    with pytest.raises(DataError, match="response_tokens"):
        row_length({"id": "a"}, "response")


def test_bounds_are_inclusive():
    check = LengthBounds(at_least=2, at_most=3)
    assert [check(r).reason for r in rows([1, 2, 3, 4])] == ["too_short", "kept", "kept", "too_long"]
    assert LengthBounds(part="prompt", at_most=1)({"prompt": "two words"}).evidence == {"length": 2}


def test_full_bins_are_cut_to_the_mean_and_sparse_bins_stay():
    # 12 rows of 4 to 7 words, 2 of 8, 1 of 16: 3 bins, mean 5
    balanced = BalanceLengths().select(rows([5] * 12 + [8] * 2 + [16]))
    assert balanced.before["bins"] == {"4-7": 12, "8-15": 2, "16-31": 1}
    assert balanced.after["bins"] == {"4-7": 5, "8-15": 2, "16-31": 1}


def test_a_total_is_met_exactly_and_spread_evenly():
    # 9 rows from bins of 12, 6 and 1: 1 + 4 + 4
    balanced = BalanceLengths(total=9).select(rows([5] * 12 + [8] * 6 + [16]))
    assert balanced.after["bins"] == {"4-7": 4, "8-15": 4, "16-31": 1}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.data())
def test_balancing_keeps_the_total_repeats_nothing_and_never_prefers_a_fuller_bin(lengths, data):
    total = data.draw(st.integers(0, len(lengths)))
    balanced = BalanceLengths(total=total, seed=1).select(rows(lengths))
    assert len(set(balanced.indexes)) == len(balanced.indexes) == total
    assert balanced.indexes == sorted(balanced.indexes)
    kept, had = balanced.after.get("bins", {}), balanced.before["bins"]
    cut = [kept.get(name, 0) for name in had if kept.get(name, 0) < had[name]]
    assert (
        not cut or max(kept.values(), default=0) <= min(cut) + 1
    )  # water-filling: cut bins are the fullest, within a row
    assert balanced == BalanceLengths(total=total, seed=1).select(rows(lengths))


def test_what_cannot_be_is_refused():
    with pytest.raises(DataError, match="total = 3 and only 2"):
        BalanceLengths(total=3).select(rows([1, 2]))
    for args in ({"at_least": 3, "at_most": 2}, {"at_least": -1}, {"part": "answer"}):
        with pytest.raises(ConfigError):
            LengthBounds(**args)
    assert BalanceLengths().select([]).indexes == []
