"""What ``sailrl check`` says of data: columns, answers, pictures; and how little memory it takes."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from sailrl.commands.check import check_job
from sailrl.commands.check_plan import Machines
from sailrl.config.schema import SourceConfig
from sailrl.data.images import DECODED_BYTES, ImageStore
from sailrl.data.problems import load_problems
from sailrl.errors import ConfigError
from sailrl.learner.vision import CACHED_BYTES
from sailrl.plan.memory import GIB


def checked(
    folder: Path,
    rows: list[dict[str, Any]],
    *overrides: str,
    model: str = "org/model",
    machines: Machines | None = None,
) -> tuple[str, str]:
    """What is printed, and the error."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "c.yaml"
    path.write_text(
        f"kind: rlvr\nmodel: {{path: {model}, dtype: float32}}\ndata: {{train: {{path: {folder}/rows.jsonl}}, "
        "max_prompt_tokens: 100}\nrollout: {max_response_tokens: 100}\n"
        "rewards: {parts: {boxed: {use: 'rewards.boxed:BoxedAnswer', weight: 1.0}}}\n"
    )
    console = Console(width=200, record=True, file=io.StringIO())
    try:
        check_job(path, overrides, console, machines=machines)
    except ConfigError as error:
        return console.export_text(), str(error)
    return console.export_text(), ""


def test_answers_in_an_object_are_named_and_read(tmp_path: Path) -> None:
    rows = [{"prompt": "1+1?", "reward_model": {"ground_truth": "2"}, "ability": "math"}]
    _, error = checked(tmp_path, rows)
    assert "Write data.train.answer_field: reward_model.ground_truth" in error
    printed, error = checked(tmp_path, rows, "data.train.answer_field=reward_model.ground_truth")
    assert error == ""
    assert "warning: data.train: nothing reads the column `ability`." in printed


def test_a_file_without_any_answer_is_refused(tmp_path: Path) -> None:
    _, error = checked(tmp_path, [{"prompt": "1+1?"}, {"prompt": "2+2?"}])
    assert "data.train: none of the 2 problems that were tried can have a reward (2 x boxed:gold_missing)" in error


def test_images_for_a_model_of_text_are_refused_without_rendering_anything(tmp_path: Path, tiny_folder: Path) -> None:
    Image.new("RGB", (28, 28)).save(tmp_path / "a.png")
    rows: list[dict[str, Any]] = [
        {"prompt": "?", "answer": "1", "images": ["a.png"]},
        {"prompt": "1+1?", "answer": "2"},
    ]
    _, error = checked(tmp_path, rows, model=str(tiny_folder))
    assert "data.train: 1 of 2 problems have images, and the model" in error
    assert "data.train.ignore: [images, videos]" in error
    assert checked(tmp_path, rows, "data.train.ignore=[images, videos]", model=str(tiny_folder))[1] == ""


def test_the_room_of_pictures_in_the_run_folder_is_planned(tmp_path: Path, vlm_folder: Path) -> None:
    Image.effect_noise((1000, 1000), 90).save(tmp_path / "a.png")
    size = (tmp_path / "a.png").stat().st_size / (1 << 20)
    rows = [{"prompt": "?", "answer": str(i), "images": ["a.png"]} for i in range(3)]
    printed, error = checked(tmp_path, rows, model=str(vlm_folder), machines=Machines(1, 8, 80.0))
    assert error == ""
    assert f"1 distinct image, {size:.1f} MiB encoded" in printed
    assert f"images {size:.1f} MiB" in printed
    assert "decoded images 2.0" in printed  # one rank and one engine


def test_the_plan_knows_the_caches_of_the_processes() -> None:
    """The plan is made without the rooms that have them, so it writes the numbers down again."""
    assert DECODED_BYTES == CACHED_BYTES == GIB


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """60 MB of pictures in row groups of 5."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    rows = [
        {"prompt": "?", "answer": "1", "images": [buffer.getvalue() + number.to_bytes(4, "big") + bytes(1 << 20)]}
        for number in range(60)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=5, compression="zstd")
    return tmp_path / "rows.parquet"


def test_pictures_in_parquet_do_not_stay_in_memory(pictures: Path, tmp_path: Path) -> None:
    tracemalloc.start()
    printed, error = checked(tmp_path, [], f"data.train.path={pictures}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    store = ImageStore(tmp_path / "store")
    problems = load_problems(SourceConfig(path=str(pictures)), on_bad_row="error", store=store).problems
    peak_of_a_run = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error == ""
    assert "60 distinct images, 60.0 MiB encoded" in printed
    assert peak < 32 << 20  # 16 rows to try the rewards on, and a row group
    assert peak_of_a_run < peak
    assert all(Path(str(image)).parent == tmp_path / "store" / "encoded" for p in problems for image in p.images)
