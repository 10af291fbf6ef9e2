"""``sailrl score --compare``: what a label, another file or another reward says of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sailrl.commands.score import ScoreOptions, score_job
from sailrl.data.rows import RowWriter
from sailrl.errors import ConfigError, DataError

SAME = "my_reward.py:Same=1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_reward.py").write_text(
        "def Same(response, problem):\n    return response == problem.answer\n"
        "def Never(response, problem):\n    raise AssertionError('no row may be scored')\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, rows: list[dict[str, Any]]) -> None:
    with RowWriter(name) as out:
        for row in rows:
            out.write(row)


def rows_of(*responses: str, **columns: list[Any]) -> list[dict[str, Any]]:
    """Rows whose right answer is 4."""
    extra = [{name: values[i] for name, values in columns.items()} for i in range(len(responses))]
    return [{"response": text, "answer": "4"} | more for text, more in zip(responses, extra, strict=True)]


def compared(rows: list[dict[str, Any]], other: str, *, reward: str = SAME) -> None:
    write("in.jsonl", rows)
    score_job(ScoreOptions(Path("in.jsonl"), Path("out.jsonl"), rewards=[reward], compare=other))


def test_a_column_counts_agreement_and_lists_who_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [True, 0, "correct", "no", None, 1.0]  # ours: right, wrong, wrong, right, right, wrong
    compared(rows_of("4", "5", "5", "4", "4", "5", label=labels), "column:label")
    out = capsys.readouterr().out
    assert "agreement of Same with column:label: 0.4000 on 5 rows (1 without a score" in out
    assert "disagreements: 3 of 3" in out


def test_labels_as_text_are_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compared(rows_of("4", "5", "4", "5", label=["1.0", "0", "true", "1"]), "column:label")
    assert "0.7500 on 4 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("lable", r"no row of in.jsonl has a column 'lable'. Did you mean column:label\?"),
        ("grade", r"no row of in.jsonl has a column 'grade'. Its columns: response, answer, label, note"),
        ("note", r"no row of in.jsonl has a label in the column 'note'.* The first value there is 'good'"),
    ],
)
def test_a_column_without_labels_is_found_before_any_row_is_scored(folder: Path, column: str, says: str) -> None:
    rows = rows_of("4", "5", label=[1, 0], note=["good", None])
    with pytest.raises(DataError, match=says):
        compared(rows, f"column:{column}", reward="my_reward.py:Never=1")
    assert not Path("out.jsonl").exists()


def test_files_are_paired_by_id_in_any_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of("4", "4", "5", id=["a", 7, "c"])
    write("in.jsonl", rows)
    score_job(ScoreOptions(Path("in.jsonl"), Path("before.jsonl"), rewards=[SAME]))
    compared([rows[2], rows[0], rows[1]], "before.jsonl")
    shown = capsys.readouterr()
    assert "1.0000 on 3 rows" in shown.out  # by line it would be 0.3333
    assert "paired" not in shown.err


def test_several_responses_to_one_problem_are_paired_in_their_order(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of("4", "5", "4", id=["a", "a", "b"])
    write("in.jsonl", rows)
    score_job(ScoreOptions(Path("in.jsonl"), Path("before.jsonl"), rewards=[SAME]))
    compared([rows[2], rows[0], rows[1]], "before.jsonl")
    assert "1.0000 on 3 rows" in capsys.readouterr().out


def test_rows_without_a_partner_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("theirs.jsonl", [{"id": "a", "reward": 1.0}, {"id": "x", "reward": 0.0}, {"id": "y", "reward": 0.0}])
    compared(rows_of("4", "5", id=["a", "b"]), "theirs.jsonl")
    shown = capsys.readouterr()
    assert "1.0000 on 1 rows (1 without a score" in shown.out
    assert "1 rows of in.jsonl and 2 rows of theirs.jsonl have no partner" in shown.err
    assert "theirs.jsonl has no scores of Same; its reward is compared, which is right from 1 on" in shown.err


def test_files_of_other_rows_are_refused_before_any_row_is_scored(folder: Path) -> None:
    write("theirs.jsonl", [{"id": "x", "reward": 1.0}])
    with pytest.raises(DataError, match=r"theirs.jsonl and in.jsonl have no id in common, for example 'a'"):
        compared(rows_of("4", id=["a"]), "theirs.jsonl", reward="my_reward.py:Never=1")
    with pytest.raises(DataError, match=r"theirs.jsonl has 1 rows and in.jsonl has 2.*Give both ids"):
        compared(rows_of("4", "5"), "theirs.jsonl", reward="my_reward.py:Never=1")
    write("theirs.jsonl", [{"id": "a", "text": "no score"}])
    with pytest.raises(DataError, match=r"no row of theirs.jsonl has a score of Never or a reward"):
        compared(rows_of("4", id=["a"]), "theirs.jsonl", reward="my_reward.py:Never=1")
    assert not Path("out.jsonl").exists()


def test_without_ids_rows_are_paired_by_their_order_which_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("theirs.jsonl", [{"scores": {"Same": {"value": 1.0}}, "reward": 0.0}, {"id": "b", "reward": 0.0}])
    compared(rows_of("4", "5"), "theirs.jsonl")
    shown = capsys.readouterr()
    assert "1.0000 on 2 rows" in shown.out
    assert shown.err.count("rows are paired by their order") == 1


def test_another_reward_scores_the_same_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of("4", "4", "5")
    compared(rows, "my_reward.py:Same")
    assert "1.0000 on 3 rows" in capsys.readouterr().out
    compared(rows, "repetition")  # 0 for all: "wrong"
    assert "0.3333 on 3 rows" in capsys.readouterr().out


def test_agreement_on_no_row_is_an_error(folder: Path) -> None:
    rows: list[dict[str, Any]] = [{"response": "4", "answer": "4"}, {"response": "4", "answer": {"a": 1}, "label": 1}]
    with pytest.raises(DataError, match=r"none of the 2 rows has both a score of Same and a word of column:label"):
        compared(rows, "column:label")
    assert Path("out.jsonl").exists()


def test_a_name_that_is_no_reward_is_answered_by_the_forms_that_compare_takes(folder: Path) -> None:
    write("in.jsonl", [{"response": "4", "answer": "4", "label": 1}])
    with pytest.raises(ConfigError, match=r"no built-in reward 'label'.*as column:NAME, and a scored file"):
        score_job(ScoreOptions(Path("in.jsonl"), Path("out.jsonl"), rewards=[SAME], compare="label"))
    assert not Path("out.jsonl").exists()
