"""Every second of a run is booked exactly once."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from sailrl.report.timing import Pace, Stopwatch


def test_phases_and_the_rest_sum_to_wall_time(clock: Any) -> None:
    watch = Stopwatch(clock)
    with watch("generate"):
        clock.wait(3.0)
    clock.wait(0.5)
    with watch("learn"):
        clock.wait(2.0)
    with watch("sync"):
        clock.wait(0.25)
    lap = watch.lap()
    assert (lap["time/generate_s"], lap["time/learn_s"], lap["time/sync_s"], lap["time/other_s"]) == (3, 2, 0.25, 0.5)
    assert lap["time/step_s"] == 5.75
    assert sum(v for k, v in lap.items() if k != "time/step_s") == lap["time/step_s"]


def test_a_line_gets_only_what_happened_since_the_line_before(clock: Any) -> None:
    watch = Stopwatch(clock)
    with watch("generate"):
        clock.wait(4.0)
    laps = []
    for _ in range(2):  # an episode of two updates: its generation belongs to the first line
        with watch("learn"):
            clock.wait(1.0)
        laps.append(watch.lap())
    assert [lap["time/generate_s"] for lap in laps] == [4, 0]
    assert [lap["time/step_s"] for lap in laps] == [5, 1]


def test_an_inner_phase_is_not_counted_twice(clock: Any) -> None:
    watch = Stopwatch(clock)
    with watch("generate"):
        clock.wait(1.0)
        with watch("sync"):
            clock.wait(2.0)
        clock.wait(1.0)
    lap = watch.lap()
    assert (lap["time/generate_s"], lap["time/sync_s"]) == (2, 2)
    assert lap["time/step_s"] == 4  # adding up whole spans would give 4 + 2


def test_a_lap_inside_a_phase_splits_it(clock: Any) -> None:
    watch = Stopwatch(clock)
    with watch("eval"):
        clock.wait(1.0)
        assert watch.lap()["time/eval_s"] == 1
        clock.wait(2.0)
    assert watch.lap()["time/eval_s"] == 2


def test_time_before_an_error_is_booked_and_the_phase_is_closed(clock: Any) -> None:
    watch = Stopwatch(clock)
    with contextlib.suppress(KeyError), watch("learn"):
        clock.wait(1.0)
        raise KeyError
    clock.wait(2.0)
    lap = watch.lap()
    assert (lap["time/learn_s"], lap["time/other_s"]) == (1, 2)


def test_phases_that_overlap_instead_of_nesting_are_refused(clock: Any) -> None:
    watch = Stopwatch(clock)
    first, second = watch("generate"), watch("learn")
    first.__enter__()
    second.__enter__()
    with pytest.raises(RuntimeError, match="must nest"):
        first.__exit__(None, None, None)


def test_an_unknown_phase_is_refused() -> None:
    with pytest.raises(ValueError, match="generat"), Stopwatch()("generation"):
        pass


def test_the_pace_is_that_of_whole_episodes_and_steady_where_updates_are_not(clock: Any) -> None:
    watch, pace, shown = Stopwatch(clock), Pace(2), []
    for _ in range(3):  # episodes of two updates: 8 s of generation, 1 s for each update, 100 tokens learned in each
        with watch("generate"):
            clock.wait(8.0)
        for _ in range(2):
            with watch("learn"):
                clock.wait(1.0)
            shown.append(pace.after(100.0, watch.lap()))
        with watch("eval"):
            clock.wait(50.0)  # no part of an episode
    assert [one["time/update_s"] for one in shown] == [9, 5, 5, 5, 5, 5]  # (8 + 1 + 1) / 2; the first has no second yet
    assert [one["tokens/trained_per_s"] for one in shown[1:]] == [20] * 5  # 200 tokens in 10 s
