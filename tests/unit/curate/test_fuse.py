"""``sailrl fuse``: the mix, its provenance, and what happens to rows that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sailrl.config.fusing import FuseConfig
from sailrl.curate.fuse import start_fuse
from sailrl.errors import ConfigError, DataError
from sailrl.report.traces import RolloutLog
from sailrl.types import Completion, Group, Problem, Prompt, Rollout, Score
from tests.unit.curate.test_filter import read, write


def rollout(problem: int, value: float, form: float = 1.0, **fields: Any) -> dict[str, Any]:
    scores = {
        name: {"value": v, "status": "scored", "reason": ""} for name, v in (("boxed", value), ("think_format", form))
    }
    row = {
        "id": f"p{problem}",
        "prompt": f"{problem}?",
        "answer": "1",
        "response": f"<think>{problem} {value}</think>1",
    }
    return {**row, "reward": value, "scores": scores, **fields}


def fused(folder: Path, cot: list[Any], direct_rows: int, **config: Any) -> list[dict[str, Any]]:
    write(folder / "rollouts.jsonl", cot)
    write(
        folder / "direct.jsonl",
        [{"id": f"d{i}", "prompt": f"direct {i}?", "answer": str(i)} for i in range(direct_rows)],
    )
    sections = {"cot": [str(folder / "rollouts.jsonl")], "direct": [{"path": str(folder / "direct.jsonl")}]}
    start_fuse(FuseConfig.model_validate({"kind": "fuse", **sections, **config}), folder)
    return read(folder / "fused.jsonl") if config.get("format") != "parquet" else []


def test_one_row_in_ten_is_a_chain_of_thought_that_was_right(tmp_path: Path) -> None:
    cot = [row for i in range(5) for row in (rollout(i, 1.0), rollout(i, 0.0), rollout(i, 1.0, form=0.0))]
    rows = fused(tmp_path, cot, 100, cot_instruction="Think.")
    # 5 problems have a right and well-formed response: 5 + 45 rows
    assert [sum(row["kind"] == kind for row in rows) for kind in ("cot", "direct")] == [5, 45]
    one = next(row for row in rows if row["problem_id"] == "p0")
    assert one["prompt"] == [{"role": "user", "content": "0?\nThink."}]
    assert one["completion"] == [{"role": "assistant", "content": "<think>0 1.0</think>1"}]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["cot_share"] == {"asked": 0.1, "got": 0.1}
    assert report["pools"]["cot"]["reasons"] == {"wrong": 5, "malformed": 5, "chosen": 5}


def test_rows_that_cannot_be_used_are_counted_and_cost_nothing_else(tmp_path: Path) -> None:
    no_scores = {"prompt": "q", "response": "r"}
    rows = fused(tmp_path, ["nonsense", no_scores, rollout(1, 1.0, images=["gone.png"]), rollout(2, 1.0)], 9)
    assert len(rows) == 10
    unusable = json.loads((tmp_path / "report.json").read_text())["unusable"]
    assert unusable == {"cot": {"not_json": 1, "no_scores": 1, "no_image": 1}, "direct": {}}


def test_a_pool_that_is_too_small_is_an_error_with_the_numbers_unless_allowed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"need 2 CoT rows and 1 are left.*at most 10, or allow_smaller"):
        fused(tmp_path, [rollout(1, 1.0), rollout(2, 0.0)], 40, total=20)
    assert not (tmp_path / "fused.jsonl").exists()
    assert len(fused(tmp_path, [rollout(1, 1.0)], 40, total=20, allow_smaller=True)) == 10


def test_evaluation_questions_are_in_neither_pool(tmp_path: Path) -> None:
    (tmp_path / "eval.jsonl").write_text('{"prompt": "1?", "answer": "1"}\n{"prompt": "direct 0?", "answer": "0"}\n')
    guard = {"files": [str(tmp_path / "eval.jsonl")]}
    rows = fused(tmp_path, [rollout(1, 1.0), rollout(2, 1.0)], 10, cot_share=0.5, decontaminate=guard)
    assert {row["problem_id"] for row in rows if row["kind"] == "cot"} == {"p2"}
    assert "d0" not in {row["problem_id"] for row in rows}


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    cot = [rollout(i, 1.0) for i in range(3)]
    rows = fused(tmp_path, cot, 30)
    fused(tmp_path, cot, 30, format="parquet")
    assert pq.read_table(tmp_path / "fused.parquet").to_pylist() == rows


def test_images_of_an_rl_run_are_found_in_its_store(tmp_path: Path) -> None:
    (tmp_path / "images" / "encoded").mkdir(parents=True)
    (tmp_path / "images" / "encoded" / "ab12").write_bytes(b"an image")
    problem = Problem(prompt=[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}])
    completion = Completion([1], [-0.1], "<think>.</think>2", "stop", version=0)
    scores = {"boxed": Score(1.0), "think_format": Score(1.0)}
    log = RolloutLog(tmp_path, accuracy="boxed")
    log.log(
        Group(Prompt(problem, [1], [1], ("ab12",)), [Rollout(completion, scores, 1.0)]),
        episode=1,
        step=0,
        version=0,
        index=0,
    )
    log.close()
    (row,) = fused(tmp_path, read(tmp_path / "rollouts.jsonl"), 0, cot_share=1.0, direct=[], cot_instruction="")
    assert row["images"] == [str(tmp_path / "images" / "encoded" / "ab12")]
    assert row["prompt"][0]["content"] == [{"type": "image"}, {"type": "text", "text": "How many?"}]


def test_names_of_files_and_fields_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "[red]"
    folder.mkdir()
    fused(folder, [rollout(1, 1.0)], 9)
    assert f"written    {folder / 'fused.jsonl'}" in capsys.readouterr().out


def instructed(folder: Path, instruction: str, name: str = "rollouts.jsonl") -> Path:
    folder.mkdir()
    (folder / "resolved.yaml").write_text(f"kind: rlvr\ndata: {{instruction: {instruction!r}}}\n")
    write(folder / name, [rollout(1, 1.0)])
    return folder / name


@pytest.mark.parametrize(("instruction", "prompt"), [("", "1?"), ("Think.", "1?\nThink.")])
def test_chains_of_thought_are_asked_for_as_their_run_did(tmp_path: Path, instruction: str, prompt: str) -> None:
    """A run without an instruction gives prompts without one: nothing is added that its model never saw."""
    cot = instructed(tmp_path / "run", instruction)
    sections = {"kind": "fuse", "cot": [str(cot)], "cot_share": 1.0}
    start_fuse(FuseConfig.model_validate(sections), tmp_path)
    assert [row["prompt"][0]["content"] for row in read(tmp_path / "fused.jsonl")] == [prompt]
    assert json.loads((tmp_path / "report.json").read_text())["cot_instruction"] == instruction


def test_files_of_runs_with_different_instructions_need_one_that_is_written(tmp_path: Path) -> None:
    files = [str(instructed(tmp_path / name, text)) for name, text in (("a", "Think."), ("b", ""))]
    sections: dict[str, Any] = {"kind": "fuse", "cot": files, "cot_share": 1.0}
    with pytest.raises(ConfigError, match=r"generated with different instructions .*'Think\.'.*Write cot_instruction"):
        start_fuse(FuseConfig.model_validate(sections), tmp_path)
    start_fuse(FuseConfig.model_validate(sections | {"cot_instruction": "Think."}), tmp_path)


def test_choices_stay_beside_a_prompt_that_lacks_them(tmp_path: Path) -> None:
    rows = fused(tmp_path, [rollout(1, 1.0, choices=["ant", "whale"])], 9)
    assert [row["choices"] for row in rows if row["kind"] == "cot"] == [["ant", "whale"]]
    assert not any("choices" in row for row in rows if row["kind"] == "direct")


def test_pictures_in_a_column_that_nothing_reads_stop_a_fusion(tmp_path: Path) -> None:
    write(tmp_path / "direct.jsonl", [{"prompt": "?", "answer": "1", "img": "a.png"}])
    write(tmp_path / "rollouts.jsonl", [rollout(1, 1.0)])
    sections = {"cot": [str(tmp_path / "rollouts.jsonl")], "direct": [{"path": str(tmp_path / "direct.jsonl")}]}
    with pytest.raises(DataError, match=r"Write direct\.0\.images_field: img"):
        start_fuse(FuseConfig.model_validate({"kind": "fuse", **sections}), tmp_path)
