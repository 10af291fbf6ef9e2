"""The curve and the last words of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sailrl.errors import DataError
from sailrl.report.html import write_report
from sailrl.report.metrics import SFT_KEYS, MetricsLog
from sailrl.report.picture import curve_png, smooth
from sailrl.report.run_data import load_run
from sailrl.report.shown import climb, clock, metric, span
from sailrl.report.summary import print_summary, summary

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("updates", [0, 1, 30])
def test_a_run_of_any_length_has_a_picture(tmp_path: Path, make_run: Callable[..., Path], updates: int) -> None:
    path = curve_png(make_run(tmp_path / "run", updates=updates))
    assert path == tmp_path / "run" / "curve.png"
    assert path.read_bytes().startswith(PNG)


def test_without_metrics_there_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no metrics to draw"):
        curve_png(tmp_path)


def test_updates_and_evaluations_are_told_apart(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = load_run(make_run(tmp_path / "run"))
    assert run.series("eval/accuracy").steps == [0, 2]
    assert run.series("accuracy").values == pytest.approx([0.5, 0.6])
    assert run.series("never/measured").values == []
    assert run.training_s == 80


def test_smoothing_keeps_a_straight_line_and_the_ends_use_what_is_there() -> None:
    assert smooth([1, 2, 3, 4, 5], 3) == [1.5, 2, 3, 4, 4.5]
    assert smooth([1, 2, 3], 1) == [1, 2, 3]


def test_the_summary_says_what_was_reached_where_it_lies_and_what_to_do_next(
    tmp_path: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    print_summary(run, "sailrl run tiny.yaml")
    shown = capsys.readouterr().out
    assert "2 updates in 1 min 20 s" in shown
    assert "8.0% → 50.0% (+42.0 points)" in shown
    for path in (run / "curve.png", run / "report.html"):
        assert path.is_file()
        assert str(path) in shown
    assert f"sailrl score {run}/rollouts.jsonl" in shown
    assert "sailrl run tiny.yaml" in shown


def supervised(folder: Path, steps: int) -> Path:
    """The metrics of a supervised stage: each step takes 2 s and halves the loss."""
    metrics = MetricsLog(folder, required=SFT_KEYS)
    for step in range(1, steps + 1):
        values = {
            "loss": 0.5,
            "nll": 4 * 0.5**step,
            "learning_rate": 1e-3,
            "grad_norm": 1.0,
            "tokens": 100.0,
            "entropy": 1.0,
        }
        metrics.log(step, {**values, "time/step_s": 2.0, "time/update_s": 2.0, "tokens/trained_per_s": 50.0})
    metrics.close()
    return folder


@pytest.mark.parametrize("steps", [1, 30])
def test_a_supervised_stage_has_a_picture_a_page_and_its_true_time(tmp_path: Path, steps: int) -> None:
    folder = supervised(tmp_path / "sft", steps)
    assert curve_png(folder).read_bytes().startswith(PNG)
    page = write_report(folder).read_text(encoding="utf-8")
    took = {1: "1 step in 2 s", 30: "30 steps in 1 min 00 s"}[steps]
    assert f"loss 2.000 → {4 * 0.5**steps:.3f} nats per token, {took}" in page
    assert "rollouts" not in page.partition("<section>")[0]
    assert "Sample rollouts" not in page
    assert "learning_rate" in page
    shown = summary(folder)
    assert took in shown
    assert "loss               2.000 → " in shown


def test_a_run_without_evaluations_claims_no_climb(tmp_path: Path) -> None:
    assert "held-out" not in summary(tmp_path)


def test_a_page_that_cannot_be_written_does_not_spoil_a_finished_run(
    tmp_path: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    (run / "report.html").mkdir()
    print_summary(run)
    assert "+42.0 points" in capsys.readouterr().out


def test_numbers_read_like_numbers() -> None:
    assert [clock(s) for s in (0, 59.4, 75, 3600 + 62)] == ["0:00", "0:59", "1:15", "1:01:02"]
    assert [span(s) for s in (8, 75, 3600 + 125)] == ["8 s", "1 min 15 s", "1 h 02 min"]
    assert climb([0.08]) == "8.0%"  # one evaluation is no climb
    assert climb([0.5, 0.9, 0.45]) == "50.0% → 45.0% (-5.0 points)"
    assert [metric(v) for v in (None, 0.123456, 12345, 3.0, 1.5e-7)] == ["–", "0.1235", "12,345", "3", "1.5e-07"]
