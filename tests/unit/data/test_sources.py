"""Where problems come from: patterns, folders of shards, datasets that were saved, and the hub."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sailrl.config.base import Plugin
from sailrl.config.schema import SourceConfig
from sailrl.config.sources import origin
from sailrl.data.problems import ProblemReader, load_problems
from sailrl.data.sources import count_source, open_source
from sailrl.errors import DataError
from sailrl.launch.fingerprint import named_contents, source_digest

datasets = pytest.importorskip("datasets")


def shard(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": name, "answer": name}) + "\n" for name in names))
    return path


def ids(path: Path | str, **settings: Any) -> list[str]:
    loaded = load_problems(SourceConfig(path=str(path), **settings), on_bad_row="error")
    return [problem.id for problem in loaded.problems]


def refused(path: Path | str, **settings: Any) -> str:
    with pytest.raises(DataError) as error:
        ids(path, **settings)
    return str(error.value)


# --- several files ---------------------------------------------------------------------------------------------------


def test_a_folder_and_a_pattern_are_read_shard_by_shard_with_the_line_in_each(tmp_path: Path) -> None:
    shard(tmp_path / "d" / "b.jsonl", "3")
    shard(tmp_path / "d" / "a.jsonl", "1", "2")
    (tmp_path / "d" / "README.md").write_text("about")
    (tmp_path / "d" / "dataset_info.json").write_text("{}")
    both = ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1"]
    assert ids(tmp_path / "d") == both
    assert ids(tmp_path / "d" / "*.jsonl") == both
    assert ids(tmp_path / "d" / "[b]*.jsonl") == ["b.jsonl:1"]
    assert count_source(SourceConfig(path=str(tmp_path / "d"))) == 3


def test_shards_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    shard(tmp_path / "x" / "a.jsonl", "1")
    shard(tmp_path / "y" / "a.jsonl", "2")
    assert ids(tmp_path) == ["x/a.jsonl:1", "y/a.jsonl:1"]


def test_pictures_of_a_shard_are_relative_to_its_own_folder(tmp_path: Path) -> None:
    shard(tmp_path / "x" / "a.jsonl").write_text('{"prompt": "?", "images": ["p.png"]}\n')
    (tmp_path / "x" / "p.png").write_bytes(b"png")
    loaded = load_problems(SourceConfig(path=str(tmp_path)), on_bad_row="error")
    assert loaded.problems[0].images == (str(tmp_path / "x" / "p.png"),)


def test_files_of_several_splits_are_never_mixed_unseen(tmp_path: Path) -> None:
    shard(tmp_path / "data" / "train-00000-of-00001.jsonl", "1")
    shard(tmp_path / "data" / "test-00000-of-00001.jsonl", "2")
    said = refused(tmp_path)
    assert "files of several splits: test, train. Write split: test." in said
    assert ids(tmp_path, split="train") == ["data/train-00000-of-00001.jsonl:1"]
    assert "the word 'dev', which split names: data/test-" in refused(tmp_path, split="dev")


def test_a_word_within_a_word_is_no_split(tmp_path: Path) -> None:
    shard(tmp_path / "latest.jsonl", "1")  # has `test` in it
    shard(tmp_path / "constraints.jsonl", "2")  # has `train`
    assert len(ids(tmp_path)) == 2
    assert "the word 'train'" in refused(tmp_path, split="train")


def test_the_subset_of_a_folder_is_the_folder_in_it(tmp_path: Path) -> None:
    shard(tmp_path / "main" / "a.jsonl", "1")
    shard(tmp_path / "socratic" / "a.jsonl", "2")
    assert ids(tmp_path, subset="main") == ["main/a.jsonl:1"]
    assert "there is no folder" in refused(tmp_path, subset="other")


def test_a_folder_without_rows_and_one_of_two_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "has no file with rows; it has notes.txt" in refused(tmp_path)
    shard(tmp_path / "a.jsonl", "1")
    (tmp_path / "a.csv").write_text("prompt,answer\n1,1\n")
    assert "files of several formats: a.csv and a.jsonl" in refused(tmp_path)
    assert "no file matches" in refused(tmp_path / "*.tsv")


def test_a_bad_row_is_named_with_its_shard(tmp_path: Path) -> None:
    shard(tmp_path / "a.jsonl", "1")
    (tmp_path / "b.jsonl").write_text("{broken\n")
    assert "b.jsonl:1: not JSON" in refused(tmp_path)


# --- a part of the rows ----------------------------------------------------------------------------------------------


def test_a_limit_takes_the_first_rows_or_the_same_ones_at_random_for_a_seed(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.jsonl", *map(str, range(100)))
    assert ids(path, limit=3) == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]
    drawn = ids(path, limit=3, shuffle=0)
    assert drawn == ids(path, limit=3, shuffle=0)
    assert len(drawn) == 3
    assert drawn != ids(path, limit=3, shuffle=1)
    assert len(ids(path, limit=1000, shuffle=0)) == 100


def numbers(count: int) -> list[dict[str, Any]]:
    return [{"prompt": str(number)} for number in range(count)]


def test_a_generator_is_drawn_from_too() -> None:
    source = SourceConfig(generate=Plugin(use=f"{__file__}:numbers", args={"count": 50}), limit=4, shuffle=0)
    assert len(list(open_source(source))) == 4


# --- the datasets library --------------------------------------------------------------------------------------------


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(out, "PNG")
    return out.getvalue()


def saved(path: Path, split: str | None = None) -> bytes:
    picture = png()
    features = datasets.Features(
        prompt=datasets.Value("string"),
        images=datasets.Sequence(datasets.Image()),
        answer=datasets.ClassLabel(names=["no", "yes"]),
    )
    rows = [{"prompt": "<image>red?", "images": [{"bytes": picture}], "answer": 1}, {"prompt": "?", "answer": 0}]
    found = datasets.Dataset.from_list([{"images": [], **row} for row in rows], features=features)
    (datasets.DatasetDict({split: found, "other": found}) if split else found).save_to_disk(str(path))
    return picture


def test_a_saved_dataset_has_its_pictures_as_they_are_encoded_and_its_labels_by_name(tmp_path: Path) -> None:
    picture = saved(tmp_path / "one")
    first, second = load_problems(SourceConfig(path=str(tmp_path / "one")), on_bad_row="error").problems
    assert (first.images, first.answer, first.id) == ((picture,), "yes", "one:1")
    assert (second.images, second.answer) == ((), "no")


def test_a_saved_dataset_of_several_splits_needs_one(tmp_path: Path) -> None:
    saved(tmp_path / "two", "train")
    assert "has several splits: train, other. Write for example split: train." in refused(tmp_path / "two")
    assert len(ids(tmp_path / "two", split="train")) == 2
    assert len(ids(tmp_path / "two", split="train", limit=1, shuffle=0)) == 1
    assert "has no split 'test'; it has train, other." in refused(tmp_path / "two", split="test")


def test_a_damaged_saved_dataset_is_refused_and_not_a_traceback(tmp_path: Path) -> None:
    saved(tmp_path / "one")
    for file in (tmp_path / "one").glob("*.arrow"):
        file.write_bytes(b"ARROW1")
    assert "cannot read" in refused(tmp_path / "one")


def test_a_name_stands_for_the_hub_only_where_nothing_here_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert origin("hiyouga/geometry3k") == "hub"
    assert origin("data/train.jsonl") == "file"
    shard(Path("hiyouga/geometry3k/train.jsonl"), "1")
    assert origin("hiyouga/geometry3k") == "folder"  # what `hf download --local-dir` made
    assert ids("hiyouga/geometry3k") == ["train.jsonl:1"]
    assert origin("hiyouga/geometry3l") == "file"  # misspelt: a folder is here, and the hub is not asked


def test_without_a_network_the_error_has_what_was_tried_and_how_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    said = refused("nobody-has-this/dataset", split="train")
    assert "is not in the cache on this machine, and the hub cannot be reached" in said
    assert "hf download nobody-has-this/dataset --repo-type dataset --local-dir nobody-has-this/dataset" in said


def test_a_stream_is_read_a_part_at_a_time(tmp_path: Path) -> None:
    path = shard(tmp_path / "d" / "train.jsonl", *map(str, range(10)))
    found = datasets.load_dataset("json", data_files=str(path), split="train", streaming=True)
    from sailrl.data.sources import _dataset_rows

    source = SourceConfig(path="a/b", limit=4, shuffle=1)
    rows: list[Any] = [drawn.row for drawn in _dataset_rows(found, source, "a/b", tmp_path)]
    drawn = [row["prompt"] for row in rows]
    assert len(drawn) == len(set(drawn)) == 4


# --- fingerprints ----------------------------------------------------------------------------------------------------


def test_the_fingerprint_of_a_source_follows_the_content_of_all_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    shard(folder / "a.jsonl", "1")
    before = [source_digest(str(path)) for path in (folder, folder / "*.jsonl", folder / "a.jsonl")]
    assert before == [source_digest(str(path)) for path in (folder, folder / "*.jsonl", folder / "a.jsonl")]
    shard(folder / "b.jsonl", "2")
    assert source_digest(str(folder)) != before[0]
    assert source_digest(str(folder / "*.jsonl")) != before[1]
    assert source_digest(str(folder / "a.jsonl")) == before[2]
    assert source_digest(str(folder / "gone.jsonl")) is None


def test_a_stage_of_a_recipe_is_known_by_the_shards_it_used(tmp_path: Path) -> None:
    shard(tmp_path / "a.jsonl", "1")
    settings = {"data": {"train": SourceConfig(path=str(tmp_path)).model_dump(mode="json")}}
    assert named_contents(settings) == {str(tmp_path): source_digest(str(tmp_path))}


def test_a_reader_goes_over_a_source_as_often_as_needed(tmp_path: Path) -> None:
    shard(tmp_path / "a.jsonl", "1", "2")
    reader = ProblemReader(SourceConfig(path=str(tmp_path)), None)
    assert [len(list(reader)) for _ in range(2)] == [2, 2]
