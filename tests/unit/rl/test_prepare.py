"""What a run needs is prepared before anything starts; rows that cannot be used are counted and listed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from sailrl.config.schema import RlvrConfig
from sailrl.data.images import FOLDER, ImageStore
from sailrl.errors import DataError
from sailrl.launch.run_folder import BAD_ROWS
from sailrl.report.progress import PlainProgress
from sailrl.rl.prepare import Prepared, prepare
from tests.fakes.local_run import make_config


def _png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (84, 84), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Two good rows on the same picture under two names, and three bad ones."""
    files = {"a.png": _png("red"), "b.png": _png("red"), "cut.png": _png("blue")[:-60]}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    problems: list[dict[str, Any]] = [
        {"id": "first", "images": ["a.png"]},
        {"id": "absent", "images": ["c.png"]},
        {"id": "cut", "images": ["cut.png"]},
        {"id": "smuggler", "images": ["a.png"], "prompt": "What is <|image_pad|>?"},
        {"images": ["b.png"]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": "red?", "answer": "1"} | row) + "\n" for row in problems))
    return path


def _prepared(rows: Path, model: Path, run: Path, **data: Any) -> tuple[Prepared, str]:
    config = RlvrConfig.model_validate(
        {
            "kind": "rlvr",
            "model": {"path": str(model), "dtype": "float32"},
            "data": {"train": {"path": str(rows)}, "instruction": "", "max_prompt_tokens": 200} | data,
            "rewards": {"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
        }
    )
    run.mkdir()
    console = Console(width=200, record=True, file=io.StringIO())
    return prepare(config, run, PlainProgress("run", 1, console=console)), console.export_text()


def test_bad_rows_are_left_out_counted_and_listed_in_the_run_folder(
    rows: Path, vlm_folder: Path, tmp_path: Path
) -> None:
    prepared, shown = _prepared(rows, vlm_folder, tmp_path / "run", on_bad_row="skip")
    assert [prompt.problem.id for prompt in prepared.train] == ["first", "rows.jsonl:5"]
    listed = (tmp_path / "run" / BAD_ROWS).read_text().splitlines()
    assert len(listed) == 3
    assert listed[0].startswith("rows.jsonl:2: images[0]: there is no file ")
    assert listed[1].startswith("problem cut: images[0]: image ")
    assert "cut.png is corrupt or cut short" in listed[1]
    assert listed[2].startswith("problem smuggler: a text contains `<|image_pad|>`")
    assert "left out 3 bad rows, listed in" in shown


def test_a_bad_row_stops_the_run_where_it_should(rows: Path, vlm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:2: images\[0\]: there is no file"):
        _prepared(rows, vlm_folder, tmp_path / "run")


def test_an_image_under_two_names_is_one_image_in_the_run_folder(rows: Path, vlm_folder: Path, tmp_path: Path) -> None:
    prepared, _ = _prepared(rows, vlm_folder, tmp_path / "run", on_bad_row="skip")
    (digest,) = {digest for prompt in prepared.train for digest in prompt.images}
    store = ImageStore(tmp_path / "run" / FOLDER)
    assert store.size(digest) == (84, 84)
    assert store.decoded == 0  # decoded when the run was prepared, and by nobody since


def test_further_sources_are_learned_from_beside_the_first(tmp_path: Path, tiny_folder: Path) -> None:
    first, more = tmp_path / "hard.jsonl", tmp_path / "general.jsonl"
    first.write_text('{"prompt": "1+1=?", "answer": "2"}\n')
    more.write_text('{"prompt": "sky?", "answer": "blue", "task": "open"}\n')
    prepared, _ = _prepared(first, tiny_folder, tmp_path / "run", more=[{"path": str(more)}])
    assert [prompt.problem.id for prompt in prepared.train] == ["hard.jsonl:1", "general.jsonl:1"]


def test_a_warm_start_is_made_once_and_again_only_when_it_would_be_another(tiny_folder: Path, tmp_path: Path) -> None:
    rows, run, weights = (
        tmp_path / "rows.jsonl",
        tmp_path / "run",
        tmp_path / "run" / "warm_start" / "model.safetensors",
    )

    def prepared(answer: str, *, steps: int = 1, resumed: bool = False) -> tuple[bytes, str]:
        row = {"prompt": "1+1=?", "answer": "2", "response": f"\\boxed{{{answer}}}"}
        rows.write_text(json.dumps(row) + "\n")
        source = {"path": str(rows)}
        config = make_config(
            model={"path": str(tiny_folder)},
            data={"train": source, "instruction": ""},
            warm_start={"data": source, "steps": steps, "rows_per_step": 1},
            rewards={"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
        )
        console = Console(width=300, record=True, file=io.StringIO())
        prepare(config, run, PlainProgress("run", 1, console=console), resumed=resumed)
        return weights.read_bytes(), console.export_text()

    first, shown = prepared("2")
    assert "warm start: 1 supervised steps" in shown
    assert prepared("2")[0] == first
    assert "warm start" not in prepared("2")[1]
    other, shown = prepared("3")
    assert other != first
    assert "warm_start was made by other settings and is made again (data_content: " in shown
    assert "steps: 1 -> 2" in prepared("3", steps=2)[1]
    last = weights.read_bytes()
    assert prepared("4", steps=3, resumed=True)[0] == last  # a checkpoint goes on with what its run began with


def test_a_share_of_the_training_problems_is_held_out_and_what_comes_besides_is_learned_from(
    tmp_path: Path, tiny_folder: Path
) -> None:
    rows, more = tmp_path / "rows.jsonl", tmp_path / "more.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"1+{n}=?", "answer": "2"}) + "\n" for n in range(10)))
    more.write_text(json.dumps({"prompt": "9-1=?", "answer": "8"}) + "\n")
    prepared, said = _prepared(rows, tiny_folder, tmp_path / "run", held_out=0.2, more=[{"path": str(more)}])
    assert (len(prepared.train), len(prepared.eval)) == (9, 2)
    held = {prompt.problem.prompt for prompt in prepared.eval}
    assert not held & {prompt.problem.prompt for prompt in prepared.train}
    assert "2 of 10 problems are held out (data.held_out)" in said
    again, _ = _prepared(rows, tiny_folder, tmp_path / "again", held_out=0.2)
    assert {prompt.problem.prompt for prompt in again.eval} == held
