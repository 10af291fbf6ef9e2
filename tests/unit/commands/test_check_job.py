"""``sailrl check`` prints what follows from a configuration and what is missing, and starts nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sailrl.commands.check import check_job
from sailrl.errors import ConfigError


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "def right(response, problem):\n    return 1.0\ndef combine(scores, weights):\n    return scores['right']\n"
    )
    Path("train.jsonl").write_text(
        '{"prompt": "1 + 1", "answer": "2", "task": "math"}\n{"answer": "3"}\n{"prompt": "2 + 2", "answer": 4}\n'
    )
    path = tmp_path / "c.yaml"
    path.write_text(
        "kind: rlvr\n"
        "model: {path: org/model, dtype: float32}\n"
        "data: {train: {path: train.jsonl}, on_bad_row: skip}\n"
        "rewards: {parts: {right: {use: 'mine.py:right', weight: 1.0}}, combine: {use: 'mine.py:combine'}}\n"
    )
    return path


def checked(base: Path, *overrides: str) -> tuple[str, str]:
    """What is printed, and the error."""
    console = Console(width=80, record=True)
    error = ""
    try:
        check_job(base, overrides, console)
    except ConfigError as raised:
        error = str(raised)
    return console.export_text(), error


def test_the_check_says_which_part_is_the_accuracy(base: Path) -> None:
    assert "accuracy: the share of responses to which right gives a full 1" in checked(base)[0]
    other = "rewards.parts={a: {use: 'mine.py:right', weight: 1.0}, b: {use: 'mine.py:right'}}"
    assert "to which b gives" in checked(base, other, "rewards.accuracy=b")[0]


def test_a_good_configuration_ends_with_ok(base: Path) -> None:
    printed, error = checked(base)
    assert error == ""
    assert f"{base}: kind rlvr, run folder runs/c" in printed
    assert "prompts per episode" in printed
    assert "data.train: 2 problems (math 1, no task 1), 1 bad rows left out:" in printed
    assert "train.jsonl:2: prompt: is missing; the row has answer" in printed
    assert printed.endswith("ok\n")


def test_what_stands_in_the_data_neither_stops_nor_steers_the_terminal(base: Path) -> None:
    Path("train.jsonl").write_text('{"prompt": "1 + 1", "answer": "2", "task": "[/b]\\u001b[2J"}\n')
    printed, error = checked(base)
    assert error == ""
    assert "data.train: 1 problems ([/b]\\x1b[2J 1)" in printed


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("sft", "model: {path: org/model}\ndata: {train: {path: imitate.jsonl}, on_bad_row: skip}\n"),
        (
            "eval",
            "models: {one: {path: org/model}}\ndata: {problems: {path: train.jsonl}, on_bad_row: skip}\n"
            "rewards: {parts: {right: {use: 'mine.py:right', weight: 1.0}}}\n",
        ),
    ],
)
def test_the_rows_of_every_kind_of_job_are_counted(base: Path, kind: str, text: str) -> None:
    rows = [json.loads(line) for line in Path("train.jsonl").read_text().splitlines()]
    Path("imitate.jsonl").write_text("".join(json.dumps({**row, "response": "2"}) + "\n" for row in rows))
    base.write_text(f"kind: {kind}\n{text}")
    printed, error = checked(base)
    assert error == ""
    assert "2 problems (math 1, no task 1), 1 bad rows left out:" in printed


def test_rows_to_imitate_that_have_no_response_are_refused(base: Path) -> None:
    base.write_text("kind: sft\nmodel: {path: org/model}\ndata: {train: {path: train.jsonl}}\n")
    assert "train.jsonl:1: response: is missing or no text" in checked(base)[1]
    base.write_text(
        "kind: rlvr\nmodel: {path: org/model, dtype: float32}\ndata: {train: {path: train.jsonl}, on_bad_row: skip}\n"
        "rewards: {parts: {right: {use: 'mine.py:right', weight: 1.0}}, combine: {use: 'mine.py:combine'}}\n"
        "warm_start: {data: {path: train.jsonl, ignore: [id]}, steps: 1}\n"
    )
    assert "warm_start.data: train.jsonl: 3 of 3 rows break a rule" in checked(base)[1]


def test_the_table_comes_before_the_complaints(base: Path) -> None:
    printed, error = checked(base, "data.train.path=nowhere.jsonl", "model.path=./nowhere")
    assert "prompts per episode" in printed
    assert not printed.endswith("ok\n")
    assert error.startswith("Missing on this machine, and needed when the run starts:\n")
    assert error.count("nowhere.jsonl'") == 1
    assert error.count("model.path is './nowhere'") == 1
    _, error = checked(base, "data.train.path=nowhere.jsonl", "rewards.parts.right.use=mine.py:Wrong")
    assert error.index("does not load") < error.index("\n\nMissing on this machine") < error.index("nowhere.jsonl'")


def test_bad_rows_are_complaints_when_they_would_stop_the_run(base: Path) -> None:
    _, error = checked(base, "data.on_bad_row=error")
    assert error.startswith("data.train: train.jsonl: 1 of 3 rows break a rule.\n  train.jsonl:2: prompt: is missing")


def test_a_broken_rule_stops_before_the_table(base: Path) -> None:
    printed, error = checked(base, "rollout.top_p=0.5")
    assert printed == ""
    assert "rollout.top_p is 0.5" in error


def test_a_complaint_exits_with_2_and_without_a_traceback(base: Path) -> None:
    program = "from sailrl.cli import main; main()"
    command = [sys.executable, "-c", program, "check", str(base), "batch.group_sise=4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: command line, batch.group_sise=...: the section batch has no key `group_sise`."
    )
    assert "Traceback" not in done.stderr
