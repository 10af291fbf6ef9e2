"""One line per update with the names that scripts rely on, in metrics.jsonl and in TensorBoard alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sailrl.data.jsonl import read
from sailrl.report.metrics import RLVR_KEYS, MetricsLog


def update(**values: Any) -> dict[str, float | None]:
    line: dict[str, float | None] = {key: 0.5 for key in RLVR_KEYS if key != "step"}
    return {**line, "reward/boxed": 0.25, **values}


def lines(run: Path) -> list[dict]:
    return [record for _, record in read(run / "metrics.jsonl")]


def tensorboard_points(run: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_an_update_line_has_every_key_of_the_contract(tmp_path: Path) -> None:
    contract = (
        "step episode version reward/mean accuracy response_tokens/mean clip/low_fraction clip/high_fraction clip/high "
        "entropy grad_norm mismatch/k3 mismatch/max_abs_dlogp staleness/max groups/kept groups/dropped time/step_s "
        "time/generate_s time/learn_s time/sync_s tokens/trained_per_s"
    )
    log = MetricsLog(tmp_path)
    log.log(1, update())
    assert set(contract.split()) | {"reward/boxed"} == set(lines(tmp_path)[0])


def test_an_update_without_a_key_of_the_contract_is_refused(tmp_path: Path) -> None:
    values = update()
    del values["entropy"]
    with pytest.raises(ValueError, match="lack entropy"):
        MetricsLog(tmp_path).log(1, values)
    assert lines(tmp_path) == []


def test_an_evaluation_has_its_own_line(tmp_path: Path) -> None:
    MetricsLog(tmp_path).log_eval(0, {"eval/accuracy": 0.08, "eval/response_tokens": 31.5})
    assert lines(tmp_path) == [{"step": 0, "eval/accuracy": 0.08, "eval/response_tokens": 31.5}]


def test_numbers_that_are_not_finite_are_null_and_named(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.log(1, update(grad_norm=float("inf"), entropy=float("nan"), accuracy=None))
    raw = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in raw
    assert "Infinity" not in raw
    line = json.loads(raw)
    assert (line["grad_norm"], line["entropy"], line["accuracy"]) == (None, None, None)
    assert line["nonfinite"] == {"grad_norm": "inf", "entropy": "nan"}  # not measured is another matter


def test_numpy_numbers_are_numbers_and_text_is_not(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.log(1, update(accuracy=np.float32(0.25), entropy=np.int64(2)))
    assert (lines(tmp_path)[0]["accuracy"], lines(tmp_path)[0]["entropy"]) == (0.25, 2)
    with pytest.raises(TypeError, match="entropy"):
        log.log(2, update(entropy="0.5"))


def test_a_resumed_log_equals_one_that_was_never_interrupted(tmp_path: Path) -> None:
    whole = MetricsLog(tmp_path / "whole")
    for step in range(1, 5):
        whole.log(step, update(accuracy=step / 10))
    cut = MetricsLog(tmp_path / "cut")
    cut.log(1, update(accuracy=0.1))
    cut.log(2, update(accuracy=0.2))
    position = json.loads(json.dumps(cut.position()))  # as it lies in a checkpoint
    cut.log(3, update(accuracy=0.9))  # after the checkpoint: lost with the process
    with (tmp_path / "cut" / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":4,"acc')  # and killed in the middle of a line
    resumed = MetricsLog(tmp_path / "cut", resume_at=position)
    resumed.log(3, update(accuracy=0.3))
    resumed.log(4, update(accuracy=0.4))
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut")]
    assert metrics[0] == metrics[1]
    assert tensorboard_points(tmp_path / "cut", "accuracy") == tensorboard_points(tmp_path / "whole", "accuracy")


def test_without_going_back_a_resumed_log_would_have_lines_twice(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.log(1, update())
    log.log(2, update())
    MetricsLog(tmp_path, resume_at=log.position()).log(2, update())  # a position taken too late
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 2]


def test_another_job_may_require_other_keys(tmp_path: Path) -> None:
    MetricsLog(tmp_path, required=("step", "loss")).log(1, {"loss": 2.5})
    assert lines(tmp_path) == [{"step": 1, "loss": 2.5}]


def test_writing_metrics_loads_no_torch_and_no_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys, sailrl.report.metrics as m, sailrl.report.traces, sailrl.report.progress, pathlib;"
        "assert not {'tensorboard', 'matplotlib'} & set(sys.modules);"
        "m.MetricsLog(pathlib.Path(sys.argv[1]), required=()).log(1, {'loss': 1.0});"
        "assert not {'torch', 'tensorflow', 'ray', 'vllm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
