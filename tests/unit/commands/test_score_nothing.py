"""``sailrl score`` where nothing, or little, can be scored: exit code 2 and the first reason, no silent success."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sailrl.commands.score import ScoreOptions, score_job
from sailrl.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def score(*lines: str | dict[str, Any], rewards: tuple[str, ...] = ()) -> None:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    Path("in.jsonl").write_text(text)
    score_job(ScoreOptions(Path("in.jsonl"), Path("out.jsonl"), rewards=rewards))


def test_what_explain_would_not_use_is_refused() -> None:
    Path("in.jsonl").write_text(json.dumps(GOOD))
    score_job(ScoreOptions(Path("in.jsonl"), explain="1"))
    with pytest.raises(ConfigError, match="so --out, --compare, --workers would not be used"):
        score_job(ScoreOptions(Path("in.jsonl"), Path("o.jsonl"), explain="1", compare="column:a", workers=2))
    with pytest.raises(ConfigError, match=r"so --out would not be used. Leave out --explain, or --out\."):
        score_job(ScoreOptions(Path("in.jsonl"), Path("o.jsonl"), explain="1"))


def test_scores_of_the_input_are_not_replaced_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    score({**GOOD, "reward": 0.5}, GOOD, {**GOOD, "scores": {"mine": 1}})
    said = capsys.readouterr().err
    assert "2 rows had a `reward` or `scores` of their own; out.jsonl has the new ones instead" in said
    score(GOOD)
    assert "of their own" not in capsys.readouterr().err


GOOD = {"response": "<think>x</think>\\boxed{4}", "answer": "4"}
NOTHING: dict[str, tuple[list[str | dict[str, Any]], str]] = {
    "no answers": (
        [{"response": "\\boxed{4}"}] * 3,
        r"none of the 3 rows of in.jsonl was scored. The first: line 1, boxed: gold_missing. All reasons are in out",
    ),
    "no responses": (
        [{"completion": "4", "answer": "4"}] * 2,
        r"none of the 2 rows .* line 1, missing_response: the row has completion, answer\.",
    ),
    "NaN": (['{"response": NaN, "answer": "4"}'] * 2, r"line 1, boxed: bad_field:response"),
    "a nan answer": (['{"response": "4", "answer": NaN}'], r"line 1, boxed: bad_field:answer"),
    "blank lines": (["", "  ", ""], r"in.jsonl has no rows\."),
    "a late first row": (["", "[]"], r"line 2, "),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_a_file_of_which_no_row_can_be_scored_is_refused_with_the_first_reason(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, says = NOTHING[kind]
    with pytest.raises(DataError, match=says):
        score(*lines)
    assert "rows scored" in capsys.readouterr().out  # the summary is there all the same


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b'{"response": "4"}', mtime=0), "compressed with gzip"),
        ('{"response": "4"}\n'.encode("utf-16"), "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "a Git LFS pointer"),
        (b'[\n{"response": "4"},\n{"response": "5"}\n]', "one JSON list"),
        (b"response,answer\n4,4\n", "is not JSON lines"),
        (b"", "has no rows"),
    ],
)
def test_a_file_of_another_kind_is_named_as_what_it_is(content: bytes, says: str) -> None:
    Path("in.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=says):
        score_job(ScoreOptions(Path("in.jsonl"), Path("out.jsonl")))


def test_few_scored_rows_are_said_in_one_line_and_one_more_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"response": "\\boxed{4}"}
    score(GOOD, bad, bad)
    assert (
        "only 1 of 3 rows were scored; the first that was not: line 2, boxed: gold_missing" in capsys.readouterr().err
    )
    score(GOOD, bad)
    assert "rows were scored" not in capsys.readouterr().err


def test_a_misspelt_task_is_named_with_the_nearest_known_one(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [GOOD | {"task": task} for task in ("coice", "coice", "choice", "Choice ", "geometry", "open", "maths")]
    score(*rows)
    err = capsys.readouterr().err
    assert "in.jsonl: 2 rows have the task 'coice', which boxed does not know. Did you mean 'choice'?" in err
    assert "1 rows have the task 'maths', which boxed does not know. Did you mean 'math'?" in err
    assert err.count("Did you mean") == 2
    score(*rows, rewards=("think_format=1",))  # knows no tasks, so none can be wrong
    assert "Did you mean" not in capsys.readouterr().err


def test_explain_shows_all_rows_of_an_id_and_says_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "a", "response": f"\\\\boxed{{{n}}}", "answer": "4"} for n in range(12)]
    score(*rows, GOOD | {"id": "b"})
    capsys.readouterr()
    score_job(ScoreOptions(Path("in.jsonl"), explain="a"))
    shown = capsys.readouterr()
    assert shown.out.count("reward: ") == 10
    assert "12 rows have the id 'a', the first 10 are shown; name one by its line" in shown.err
    score_job(ScoreOptions(Path("in.jsonl"), explain="b"))
    shown = capsys.readouterr()
    assert (shown.out.count("reward: "), shown.err) == (1, "")
    score_job(ScoreOptions(Path("in.jsonl"), explain="12"))  # no id: the line
    assert "line 12" in capsys.readouterr().out


def test_the_command_exits_with_2_and_one_paragraph() -> None:
    Path("in.jsonl").write_text('{"response": "4"}\n')
    Path("ends.py").write_text("import sys\nsys.exit(0)\n")
    command = [str(Path(sys.executable).with_name("sailrl")), "score", "in.jsonl", "--out", "out.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("error: ")) == (2, 1)
    assert "error: none of the 1 rows of in.jsonl was scored." in done.stderr
    done = subprocess.run([*command, "--reward", "ends.py:Reward=1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "ends.py ends the program on import: sys.exit(0)" in done.stderr
