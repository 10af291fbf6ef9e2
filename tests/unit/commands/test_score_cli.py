from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sailrl.commands.score import ScoreOptions, score_job
from sailrl.data.rows import RowWriter, read_rows
from sailrl.errors import ConfigError, DataError, SailError
from sailrl.scoring import PartSpec, ScoringSpec
from sailrl.scoring.contract import hostile
from sailrl.scoring.resume import Unfinished
from sailrl.types import STATUSES

ROOT = Path(__file__).resolve().parents[2]
REWARD = """
import time
from sailrl.types import Score
class Same:
    def __call__(self, response, problem):
        same = response == problem.answer
        return Score(float(same), reason="same" if same else "different")
    def explain(self, response, problem):
        return [f"compared with {problem.answer!r}"]
class Slow(Same):
    def __call__(self, response, problem):
        time.sleep(0.03)
        return super().__call__(response, problem)
class Raises:
    def __call__(self, response, problem):
        raise ValueError("\\x1b[2J gone [red]")
"""


def write_rows(path: str, rows: list[dict[str, Any]]) -> None:
    with RowWriter(path) as out:
        for row in rows:
            out.write(row)


BAD_LINES: dict[str, str] = {
    "nonsense": "not_json",
    "[1, 2]": "not_an_object",
    "{}": "missing_response",
    '{"response": null, "answer": "4"}': "missing_response",
    '{"response": 4, "answer": "4"}': "bad_field:response",
    '{"response": "4", "answer": {"a": 1}}': "bad_field:answer",
    '{"response": "4", "answer": NaN}': "bad_field:answer",
    '{"response": "4", "answer": "4", "choices": "AB"}': "bad_field:choices",
    '{"response": "4", "answer": "4", "precision": "two"}': "bad_field:precision",
    '{"response": "4", "answer": "4", "response_tokens": -1}': "bad_field:response_tokens",
    '{"response": "4", "answer": "4", "meta": 1}': "bad_field:meta",
    '{"x": ' + "[" * 5000 + "]" * 5000 + "}": "not_json",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_reward.py").write_text(REWARD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scored(folder: Path) -> Callable[..., list[dict[str, Any]]]:
    def score(lines: list[Any], out: str = "out.jsonl", **options: Any) -> list[dict[str, Any]]:
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (folder / "in.jsonl").write_text("".join(f"{line}\n" for line in text))
        score_job(ScoreOptions(Path("in.jsonl"), Path(out), **({"rewards": ["my_reward.py:Same=1"]} | options)))
        return [row for _, row in read_rows(folder / out) if isinstance(row, dict)]

    return score


def test_rows_come_out_in_order_with_reward_and_scores_behind_their_own_fields(scored) -> None:
    rows = [{"id": i, "response": str(i % 3), "answer": "1", "other": [None, 0.1]} for i in range(50)]
    out = scored(rows)
    for row, result in zip(rows, out, strict=True):
        right = row["response"] == "1"
        assert result == row | {
            "reward": float(right),
            "scores": {"Same": {"value": float(right), "status": "scored", "reason": "same" if right else "different"}},
        }
        assert list(result)[-2:] == ["reward", "scores"]


def test_without_options_the_answer_counts_nine_tenths_and_the_format_one(scored) -> None:
    formatted, bare = "<think>\nTwo and two.\n</think>\n\\boxed{%s}", "\\boxed{%s}"
    rows = [{"response": text % n, "answer": "4"} for text in (formatted, bare) for n in ("4", "5")]
    out = scored(rows, rewards=[])
    assert [row["reward"] for row in out] == pytest.approx([1.0, 0.1, 0.9, 0.0])
    assert [list(row["scores"]) for row in out] == [["boxed", "think_format"]] * 4


def test_hostile_rows_cost_neither_the_command_nor_their_neighbours_anything(scored, folder: Path) -> None:
    good = {"response": "<think>x</think>\\boxed{4}", "answer": "4"}
    rows = [r for _, (text, problem, _) in hostile() for r in ({"response": text, "answer": problem.answer}, good)]
    out = scored(rows, rewards=[])
    assert len(out) == len(rows)
    assert [row["reward"] for row in out[1::2]] == [1.0] * (len(rows) // 2)
    for row in out[::2]:
        assert {score["status"] for score in row["scores"].values()} <= set(STATUSES)
    text = (folder / "out.jsonl").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text


def test_a_precision_from_a_table_with_gaps_is_a_whole_number_or_none(scored) -> None:
    values = ("1", "1.0", "NaN", "1.5")
    rows = ['{"response": "\\\\boxed{2.26}", "answer": "2.3", "precision": ' + value + "}" for value in values]
    out = scored(rows, rewards=["boxed=1"])
    assert [row["reward"] for row in out] == [1.0, 1.0, 0.0, None]
    assert out[3]["scores"]["boxed"]["reason"] == "bad_field:precision"


def test_scoring_a_scored_file_replaces_its_scores(scored) -> None:
    (out,) = scored([{"response": "4", "answer": "4", "reward": -1, "scores": {"old": 1}}])
    assert (out["reward"], list(out["scores"])) == (1.0, ["Same"])


def test_a_bad_row_keeps_its_place_and_costs_only_itself(scored) -> None:
    lines = [line for bad in BAD_LINES for line in (bad, {"response": "4", "answer": "4"})]
    out = scored(lines)
    assert [row["reward"] for row in out[1::2]] == [1.0] * len(BAD_LINES)
    for row, reason in zip(out[::2], BAD_LINES.values(), strict=True):
        assert row["reward"] is None
        assert row["scores"] == {"Same": {"value": None, "status": "unscorable", "reason": reason}}
    assert out[0]["error"] == "line 1: not JSON (Expecting value at character 0)"


def test_the_summary_counts_rows_by_task_and_status_and_tells_why(scored, capsys) -> None:
    rows = [{"response": "4", "answer": "4", "task": "math"}, {"response": "5", "answer": "4", "task": "math"}, "x"]
    scored(rows)
    words = capsys.readouterr().out.split()
    assert "0.5000" in words  # mean reward of the math rows
    assert {"math", "(none)", "all", "same", "different", "not_json"} <= set(words)


def test_what_models_and_rewards_wrote_reaches_the_terminal_without_its_powers(scored, capsys) -> None:
    evil = "\x1b[2J[bold red]\u202e"
    rows = [{"response": evil, "answer": evil + "x", "id": evil, "task": evil, "label": True}]
    scored(rows, compare="column:label")
    with pytest.raises(DataError, match="raised:ValueError"):
        scored(rows, rewards=["my_reward.py:Raises=1"])
    score_job(ScoreOptions(Path("in.jsonl"), explain="1", rewards=["my_reward.py:Same=1"]))
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[2J[bold red]" in shown
    assert "ValueError: \\x1b[2J gone [red]" in shown


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rewards": ["boxd=1"]}, "no built-in reward 'boxd'"),
        ({"rewards": ["my_reward.py:Nothing=1"]}, "has no 'Nothing'"),
        ({"rewards": ["nowhere.py:X=1"]}, "there is no file"),
        ({"rewards": ["repetition"]}, "not of the form NAME=WEIGHT"),
        ({"rewards": ["repetition=nan"]}, "not of the form NAME=WEIGHT"),
        ({"rewards": ["repetition=1", "repetition=2"]}, "twice"),
        ({"rewards": ["mix=1"]}, "has 0 rewards"),
        ({"workers": 0}, "at least 1"),
        ({"out": "out.csv"}, "must end in"),
        ({"out": "in.jsonl"}, "the input itself"),
        ({"out": "/proc/no/such.jsonl"}, "cannot write /proc/no/such.jsonl"),
        ({"config": Path("gone.yaml")}, "use one of them"),
        ({"config": Path("gone.yaml"), "rewards": []}, "there is no file gone.yaml"),
        ({"compare": "my_reward.py:Nothing"}, "has no 'Nothing'"),
        ({"compare": "gone.jsonl"}, "no file gone.jsonl"),
    ],
)
def test_a_mistake_on_the_command_line_is_an_error_before_anything_is_written(scored, folder, options, says) -> None:
    with pytest.raises(SailError, match=says):
        scored([{"response": "4", "answer": "4"}], **options)
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"in.jsonl", "my_reward.py"}


def test_a_config_names_parts_weights_and_the_combining_rule(scored, folder: Path) -> None:
    (folder / "c.yaml").write_text("""
kind: rlvr
rewards:
  parts:
    right: {use: "my_reward.py:Same", weight: 0.75}
    loops: {use: "rewards.repetition:Repetition", weight: 0.25, args: {n: 1}}
  deadline_s: 2
""")
    (row,) = scored([{"response": "4 4", "answer": "4 4"}], config=Path("c.yaml"), rewards=[])
    assert list(row["scores"]) == ["right", "loops"]
    assert row["reward"] == 0.75 * 1.0 + 0.25 * -0.5  # one of the two words has been used before


def test_a_mistake_in_the_config_is_told_with_its_line(scored, folder: Path) -> None:
    (folder / "c.yaml").write_text('rewards:\n  parts:\n    a: {use: "my_reward.py:Same", wieght: 1.0}\n')
    with pytest.raises(ConfigError, match=r"c\.yaml.*3.*\n?.*wieght"):
        scored([{"response": "4"}], config=Path("c.yaml"), rewards=[])
    (folder / "c.yaml").write_text("a: 1\n")
    with pytest.raises(ConfigError, match="no section `rewards`"):
        scored([{"response": "4"}], config=Path("c.yaml"), rewards=[])


@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet"])
def test_an_empty_file_gives_an_empty_file_and_is_refused(scored, out: str, capsys) -> None:
    with pytest.raises(DataError, match=r"in.jsonl has no rows\."):
        scored([], out=out)
    assert list(read_rows(out)) == []
    assert "0 rows scored" in capsys.readouterr().out


def test_parquet_in_and_out_keeps_types_and_order(folder: Path) -> None:
    table = pa.table({"response": ["4", "5", None], "answer": ["4"] * 3, "n": pa.array([1, 2, 3], pa.int16())})
    pq.write_table(table, "in.parquet")
    score_job(ScoreOptions(Path("in.parquet"), Path("out.parquet"), rewards=["my_reward.py:Same=1"]))
    out = pq.read_table("out.parquet")
    assert out.select(["response", "answer", "n"]).equals(table)
    assert out["reward"].to_pylist() == [1.0, 0.0, None]
    assert out["scores"].to_pylist()[2] == {
        "Same": {"value": None, "status": "unscorable", "reason": "missing_response"}
    }
    assert not list(folder.glob("*.partial.jsonl")) + list(folder.glob("*.state.json"))


@pytest.mark.parametrize(("source", "out"), [("in.jsonl", "o.parquet"), ("in.parquet", "o.jsonl")])
def test_formats_mix(scored, source: str, out: str) -> None:
    rows: list[dict[str, Any]] = [
        {"response": "4", "answer": "4", "precision": 1},
        {"response": "x", "answer": "4", "precision": None},
    ]
    if source == "in.parquet":
        write_rows(source, rows)
        score_job(ScoreOptions(Path(source), Path(out), rewards=["my_reward.py:Same=1"]))
        results: list[Any] = [row for _, row in read_rows(out)]
    else:
        results = scored(rows, out=out)
    assert [row["reward"] for row in results] == [1.0, 0.0]
    assert [row["precision"] for row in results] == [1, None]


def test_memory_does_not_grow_with_the_number_of_rows(scored) -> None:
    line = json.dumps({"response": "so \\boxed{4} " + "x" * 2000, "answer": "4"}) + "\n"
    scored([line.strip()], rewards=["think_format=1"])  # what is imported and cached once does not count
    with open("in.jsonl", "w") as file:
        for _ in range(5000):  # 10 MB
            file.write(line)
    tracemalloc.start()
    score_job(ScoreOptions(Path("in.jsonl"), Path("out.jsonl"), rewards=["think_format=1"]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Path("out.jsonl").read_bytes().count(b"\n") == 5000
    assert peak < 3_000_000


def test_explain_shows_the_way_to_the_decision_by_id_or_by_line(scored, folder: Path, capsys) -> None:
    scored([{"id": "2", "response": "4", "answer": "7"}, {"id": "b", "response": "4", "answer": "8"}])
    capsys.readouterr()

    def explained(wanted: str) -> str:
        score_job(ScoreOptions(Path("in.jsonl"), explain=wanted, rewards=["my_reward.py:Same=1"]))
        return capsys.readouterr().out

    assert "compared with '7'" in explained("2")  # an id comes before a line
    assert "compared with '8'" in explained("b")
    assert "compared with '7'" in explained("1")
    assert "scored: 0.0 by different" in explained("1")
    scored([{"response": "4", "answer": {"value": 4}}, {"answer": "4"}, {"response": "4", "answer": "4"}])
    capsys.readouterr()
    shown = explained("1")
    assert "answer: must be " in shown
    assert "reward: none (unscorable, bad_field:answer)" in shown
    assert "response: is missing" in explained("2")
    with pytest.raises(DataError, match="no row with the id 'c'"):
        explained("c")


def command(*args: str) -> list[str]:
    return [str(Path(sys.executable).with_name("sailrl")), "score", *args]


@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet"])
def test_a_killed_run_continues_after_its_last_complete_row_and_gives_the_same_file(folder: Path, out: str) -> None:
    rows = [{"id": i, "response": str(i % 2), "answer": "1", "task": "math"} for i in range(40)]
    write_rows("in.jsonl", rows)
    args = command("in.jsonl", "--out", out, "--reward", "my_reward.py:Slow=1", "--workers", "1")
    lines = folder / (out if out.endswith("l") else "out.parquet.partial.jsonl")
    if out == "out.parquet":
        lines = folder / "out.parquet.partial.jsonl"
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while time.monotonic() < end and not (lines.exists() and lines.read_bytes().count(b"\n") > 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = lines.read_bytes()
    assert 5 < kept.count(b"\n") < 40
    lines.write_bytes(kept + b'{"id": 999, "resp')  # cut in the middle of a row
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0
    assert f"continuing after row {kept.count(bytes([10]))} of" in done.stderr
    assert "40 rows scored" in done.stdout
    results = [row for _, row in read_rows(folder / out) if isinstance(row, dict)]
    assert [(row["id"], row["reward"]) for row in results] == [(i, float(i % 2)) for i in range(40)]
    assert not list(folder.glob("*.state.json")) + list(folder.glob("*.partial.jsonl"))


def test_a_run_with_other_rewards_or_input_starts_anew(scored, folder: Path, capsys) -> None:
    rows = [{"response": "4", "answer": "4"}] * 3
    reward = folder / "my_reward.py"

    def interrupted_after_one_row() -> None:
        scored(rows)
        line = (folder / "out.jsonl").read_bytes().split(b"\n")[0]
        spec = ScoringSpec({"Same": PartSpec("my_reward.py:Same", {}, 1.0)})
        Unfinished(Path("in.jsonl"), Path("out.jsonl"), spec).begin()
        (folder / "out.jsonl").write_bytes(line.replace(b"1.0", b"9.0") + b"\n")

    def first_reward(**options: Any) -> float:
        score_job(ScoreOptions(Path("in.jsonl"), Path("out.jsonl"), **({"rewards": ["my_reward.py:Same=1"]} | options)))
        row = next(read_rows("out.jsonl"))[1]
        assert isinstance(row, dict)
        return float(row["reward"])

    interrupted_after_one_row()
    assert first_reward() == 9.0  # the control: nothing changed, the old row stays
    assert first_reward() == 1.0  # finished jobs are done again
    interrupted_after_one_row()
    assert first_reward(rewards=["my_reward.py:Same=0.5"]) == 0.5
    interrupted_after_one_row()
    os.utime("in.jsonl", (0, 0))
    assert first_reward() == 1.0
    interrupted_after_one_row()
    reward.write_text(reward.read_text() + "\n# changed\n")
    assert first_reward() == 1.0


def test_the_command_loads_no_torch_ray_or_vllm_and_its_exit_codes_hold(folder: Path) -> None:
    write_rows("in.jsonl", [{"response": "4", "answer": "4"}, {"answer": "no response"}])
    script = (
        "import sys; from sailrl.cli import main; sys.argv[0] = 'sailrl'\n"
        "try: main()\n"
        "except SystemExit as e: code = e.code\n"
        "print(sorted({'torch', 'ray', 'vllm', 'transformers', 'numpy'} & set(sys.modules)), code)"
    )
    reward = ["--reward", "my_reward.py:Same=0.5", "--reward", "repetition=0.5"]

    def outcome(*args: str) -> tuple[str, str]:
        done = subprocess.run([sys.executable, "-c", script, "score", *args], capture_output=True, text=True)
        return done.stdout.strip().splitlines()[-1], done.stderr

    code, shown = outcome("in.jsonl", "--out", "out.jsonl", *reward)
    assert (code, re.sub(r"\[\d:\d\d\] row 2/2 .*\n", "", shown)) == ("[] 0", "")  # the progress line and nothing else
    assert outcome("gone.jsonl", "--out", "out.jsonl", *reward)[0] == "[] 2"
    code, errors = outcome("in.jsonl", "--out", "out.jsonl", "--reward", "gone.py:X=1")
    assert code == "[] 2"
    assert errors.startswith("error: plug-in 'gone.py:X': there is no file")
    assert "Traceback" not in errors
    assert outcome("in.jsonl", *reward)[0] == "[] 2"  # neither --out nor --explain
