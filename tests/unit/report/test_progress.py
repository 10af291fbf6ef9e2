"""What a person sees: few lines, true numbers, and nothing that the model or the data can abuse."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from sailrl.report.progress import LiveProgress, PlainProgress, open_progress


def plain(clock: Any, total: int = 100) -> tuple[PlainProgress, io.StringIO]:
    out = io.StringIO()
    return PlainProgress("run", total, console=Console(file=out, width=80), clock=clock), out


def test_plain_update_lines_come_at_most_every_two_seconds_and_the_last_one_always(clock: Any) -> None:
    progress, out = plain(clock, total=8)
    for step in range(1, 9):
        progress.update(step, {"reward/mean": step / 10})
        clock.wait(0.9)
    # at 0.0, 2.7 (the first past 2), 5.4 seconds, and the last one at 6.3
    assert [line.split()[2] for line in out.getvalue().splitlines()] == ["1/8", "4/8", "7/8", "8/8"]


def test_evaluations_and_stages_are_always_printed_with_the_time_so_far(clock: Any) -> None:
    progress, out = plain(clock)
    progress.stage("starting 1 engine (vLLM)")
    clock.wait(75)
    progress.update(1, {"reward/mean": 0.5})
    progress.evaluated(1, {"eval/accuracy": 0.4126})
    assert out.getvalue().splitlines() == [
        "[0:00] starting 1 engine (vLLM) ...",
        "[1:15] update 1/100  reward 0.500",
        "[1:15] update 1/100  held-out accuracy 41.3%",
    ]


def test_what_the_loop_does_is_printed_the_first_time_only(clock: Any) -> None:
    """So that no start is silent, and no long run is full of it."""
    progress, out = plain(clock)
    for step in (1, 2):
        progress.doing("generating")
        clock.wait(5)
        progress.doing("learning")
        clock.wait(5)
        progress.update(step, {})
    assert [line.partition("  ")[0] for line in out.getvalue().splitlines()] == [
        "[0:00] generating ...",
        "[0:05] learning ...",
        "[0:10] update 1/100",
        "[0:20] update 2/100",
    ]


def test_a_long_plain_line_is_not_broken(clock: Any) -> None:
    progress, out = plain(clock)
    progress.message("x" * 300)
    assert out.getvalue().count("\n") == 1


def test_the_remaining_time_follows_the_last_updates(clock: Any) -> None:
    progress, _ = plain(clock, total=10)
    assert progress.eta_s is None
    progress.update(1, {"time/step_s": 5.0})
    progress.update(2, {"time/step_s": 1.0})
    assert progress.eta_s == 8 * 3.0  # eight updates left at (5 + 1) / 2 seconds


def test_many_small_steps_are_shown_twice_a_second_with_their_rate(clock: Any) -> None:
    progress, out = plain(clock, total=40)
    shown = []
    for _ in range(40):
        clock.wait(0.125)  # 8 a second: every fourth is 0.5 s after the last that was shown
        shown.append(progress.advance({"accuracy": 0.25}))
    assert [i for i, was in enumerate(shown, start=1) if was] == list(range(4, 41, 4))
    assert progress.done == 40
    assert out.getvalue().splitlines()[0] == "[0:00] update 4/40  acc 25.0%  rate 8/s  eta 0:04"  # 36 left at 0.125 s


def test_the_rate_counts_from_when_the_work_is_known(clock: Any) -> None:
    progress, out = plain(clock, total=0)
    clock.wait(100)
    progress.expect(3, done=1)
    clock.wait(1)
    progress.advance()
    assert "update 2/3  rate 1/s" in out.getvalue()  # and not 2 in 101 s


def test_a_total_that_is_not_known_is_not_shown_as_zero(clock: Any) -> None:
    progress, out = plain(clock, total=0)
    clock.wait(1)
    progress.advance()
    assert "update 1  rate 1/s" in out.getvalue()


def test_hostile_text_is_written_out_on_both_displays(clock: Any) -> None:
    hostile = "\x1b[2J[red]\u202eevil\r"
    for kind in (PlainProgress, LiveProgress):
        out = io.StringIO()
        progress = kind(hostile, 10, console=Console(file=out, width=100, force_terminal=False), clock=clock)
        with progress:
            progress.stage(hostile)
            progress.message(hostile)
            progress.update(1, {"reward/mean": 0.5})
        shown = out.getvalue()
        assert "\x1b[2J" not in shown
        assert "\u202e" not in shown
        assert "\\x1b[2J[red]\\u202eevil\\r" in shown  # markup stands as it is, it does not colour


def test_the_live_panel_shows_the_climb_and_where_a_stage_was_cut(clock: Any) -> None:
    out = io.StringIO()
    with LiveProgress("tiny", 10, console=Console(file=out, width=100), clock=clock) as progress:
        progress.evaluated(0, {"eval/accuracy": 0.08})
        progress.update(5, {"reward/mean": 0.5, "time/step_s": 12.0})
        progress.evaluated(5, {"eval/accuracy": 0.5})
        progress.stage("saving")
        clock.wait(3)
    shown = out.getvalue()
    assert "held-out 8.0% → 50.0%" in shown
    assert "5/10 updates" in shown
    assert "eta 1:00" in shown  # 5 updates of 12 s
    assert "saving: 3.0 s, stopped" in shown


def test_a_file_gets_plain_lines() -> None:
    assert isinstance(open_progress("run", 10, console=Console(file=io.StringIO(), force_terminal=True)), PlainProgress)
