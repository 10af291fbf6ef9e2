from hypothesis import given
from hypothesis import strategies as st

from data_filters.histogram import LengthHistogram


def histogram(lengths):
    counted = LengthHistogram()
    for length in lengths:
        counted.add(length)
    return counted


def test_bins_double_and_quantiles_are_lengths_that_occur():
    summary = histogram([0, 1, 2, 3, 4, 7, 8]).summary()
    assert summary["bins"] == {"0": 1, "1": 1, "2-3": 2, "4-7": 2, "8-15": 1}
    # 25 / 7; the 4th of 7 sorted lengths is 3
    assert (summary["mean"], summary["p50"], summary["max"]) == (25 / 7, 3, 8)
    assert histogram([]).summary() == {"count": 0}


@given(st.lists(st.integers(0, 5000), min_size=1))
def test_every_text_falls_into_one_bin(lengths):
    summary = histogram(lengths).summary()
    assert sum(summary["bins"].values()) == summary["count"] == len(lengths)
    assert min(lengths) <= summary["p50"] <= summary["p95"] <= max(lengths)
