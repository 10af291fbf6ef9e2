"""How the scores of a benchmark's rows become one number, on rows whose number is known by hand."""

from __future__ import annotations

from typing import Any

import pytest

from sailrl.config.benchmarks import BENCHMARKS
from sailrl.report.totals import ScoredResponse, total


def number(name: str, *rows: tuple[dict[str, Any], float]) -> float | None:
    return total(BENCHMARKS[name], [ScoredResponse(row, value) for row, value in rows])[0]


def test_the_mean_of_rows_and_its_standard_error() -> None:
    rows = [ScoredResponse({}, value) for value in (1.0, 0.5, 0.0)]
    value, error = total(BENCHMARKS["docvqa"], rows)
    assert value == 0.5
    assert error == pytest.approx((0.5 / 2 / 3) ** 0.5)  # squares 0.25 + 0 + 0.25, over n - 1 = 2, over n = 3
    assert total(BENCHMARKS["docvqa"], []) == (None, None)
    assert total(BENCHMARKS["docvqa"], rows[:1]) == (1.0, None)


def test_circular_options_count_once_and_only_when_all_are_right() -> None:
    # MMBench asks row 7 again as 1000007, with its options in another order.
    rows = [({"index": "7"}, 1.0), ({"index": "1000007"}, 0.0), ({"index": "8"}, 1.0), ({"index": "1000008"}, 1.0)]
    assert number("mmbench", *rows) == 0.5
    assert number("mmstar", *rows) == 0.75  # the mean differs


def test_a_question_with_variants_is_right_when_all_are() -> None:
    rows = [({"qid": "1"}, 1.0), ({"qid": "1"}, 1.0), ({"qid": "2"}, 1.0), ({"qid": "2"}, 0.0)]
    assert number("dynamath", *rows) == 0.5


def test_hallusionbench_is_the_mean_over_answers_figures_and_questions() -> None:
    def row(figure: int, question: int, value: float) -> tuple[dict[str, Any], float]:
        return {"l2-category": "chart", "index": f"VD_chart_x_0_{figure}_{question}"}, value

    rows = [row(0, 0, 1.0), row(0, 1, 1.0), row(1, 0, 1.0), row(1, 1, 0.0)]
    # answers 3 of 4; figure 0 is right in both questions, figure 1 not: 1 of 2; question 0 of both figures: 1 of 2
    assert number("hallusionbench", *rows) == pytest.approx((0.75 + 0.5 + 0.5) / 3)


def test_we_math_gives_a_half_where_only_the_whole_problem_is_wrong() -> None:
    def problem(name: str, first: float, second: float, whole: float) -> list[tuple[dict[str, Any], float]]:
        keys = ("2steps_1", "2steps_2", "2steps_multi")
        return [({"key": key, "ID": name}, value) for key, value in zip(keys, (first, second, whole), strict=True)]

    mastered, half = problem("a", 1, 1, 1), problem("b", 1, 1, 0)
    by_rote, lacking = problem("c", 1, 0, 1), problem("d", 0, 0, 0)
    assert number("wemath", *mastered, *half, *by_rote, *lacking) == 0.375  # (1 + 0.5 + 0 + 0) / 4
    # The loose score would give the third problem a point, since one of its steps is right.
    # An ID of two steps is not the same of three.
    assert (
        number("wemath", *mastered, ({"key": "3steps_1", "ID": "a"}, 0.0), ({"key": "3steps_multi", "ID": "a"}, 1.0))
        == 0.5
    )


def test_the_standard_error_of_joined_rows_leaves_out_one_group_at_a_time() -> None:
    rows = [
        ScoredResponse({"key": key, "ID": str(n)}, value)
        for n, value in enumerate((1.0, 0.0, 0.0, 1.0))
        for key in ("2steps_1", "2steps_multi")
    ]
    value, error = total(BENCHMARKS["wemath"], rows)
    assert value == 0.5
    # Without one problem the score is 1/3 or 2/3, two of each: squares 4 x 1/36, times 3/4, root of 1/12.
    assert error == pytest.approx((1 / 12) ** 0.5)
