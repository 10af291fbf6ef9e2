"""A column that is there and unused is never silent: pictures and answers are an error, everything else a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sailrl.config.schema import SourceConfig
from sailrl.data.columns import looks_like_pictures, prompt_column
from sailrl.data.problems import LoadedProblems, load_problems
from sailrl.errors import DataError

PNG = b"\x89PNG\r\n\x1a\n..."
STRUCT = {"bytes": PNG, "path": None}


def loaded(folder: Path, *rows: dict[str, Any], **source: Any) -> LoadedProblems:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_problems(
        SourceConfig.model_validate({"path": str(path), **source}),
        "data.train",
        on_bad_row="error",
        write_choices=False,
    )


def refused(folder: Path, *rows: dict[str, Any], **source: Any) -> str:
    with pytest.raises(DataError) as error:
        loaded(folder, *rows, **source)
    return str(error.value)


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "a.png"),
        ("Image", "a.png"),
        ("img", "a.png"),
        ("img_path", "x/a"),
        ("picture", "a.png"),
        ("photo", "a.png"),
        ("screenshot", "a.png"),
        ("decoded_image", STRUCT),
        ("question_image", "a.png"),
        ("image_1", "a.png"),
        ("image1", "a.png"),
        ("imagePath", "a.png"),
        ("image_url", "https://x/a.png"),
        ("image_base64", "iVBORw0KGgo="),
        ("pixels", PNG),
        ("figure", STRUCT),
        ("pages", [STRUCT, STRUCT]),
        ("image_list", ["a.png"]),
        ("video", "v.mp4"),
        ("video_path", "v.mp4"),
    ],
)
def test_a_column_looks_like_pictures(name: str, value: Any) -> None:
    assert looks_like_pictures(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_id", 17),
        ("image_id", "coco_17"),
        ("image_width", 640),
        ("has_image", True),
        ("num_images", 2),
        ("image", ""),
        ("image_caption", "a cat"),
        ("topic", "geometry"),
        ("imagination", "x"),
        ("source", "exam"),
        ("extra", {"bytes": None, "path": None}),
        ("images", []),
    ],
)
def test_a_column_about_pictures_is_not_one(name: str, value: Any) -> None:
    assert not looks_like_pictures(name, value)


def test_pictures_that_nothing_reads_are_refused_with_the_line_to_write(tmp_path: Path) -> None:
    rows = [{"prompt": "?", "answer": "1", "img": "a.png"}, {"prompt": "!", "answer": "2"}]
    said = refused(tmp_path, *rows)
    assert "1 of 2 rows have pictures in `img`, which nothing reads" in said
    assert "Write data.train.images_field: img, or leave them out: data.train.ignore: [img]." in said
    (tmp_path / "a.png").write_bytes(PNG)
    assert loaded(tmp_path, *rows, images_field="img").problems[0].images == (str(tmp_path / "a.png"),)
    assert loaded(tmp_path, *rows, ignore=["img"]).problems[0].images == ()


def test_several_columns_of_pictures_are_one_list_in_their_order(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(PNG)
    rows = [{"prompt": "?", "answer": "1", "image_1": "b.png", "image_2": "a.png"}, {"prompt": "!", "answer": "1"}]
    assert "Write data.train.images_field: [image_1, image_2]" in refused(tmp_path, *rows)
    assert "in `image_2`, which nothing reads" in refused(tmp_path, *rows, images_field="image_1")
    first, second = loaded(tmp_path, *rows, images_field=["image_1", "image_2"]).problems
    assert [Path(str(image)).name for image in first.images] == ["b.png", "a.png"]
    assert second.images == ()


def test_a_file_of_a_picture_under_any_name_is_refused_in_a_row_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    assert "pictures in `file`" in refused(tmp_path, {"prompt": "?", "answer": "1", "file": "a.png"})
    notes = loaded(tmp_path, {"prompt": "?", "answer": "1", "images": ["a.png"], "file": "a.png"}).notes
    assert notes == ["data.train: nothing reads the column `file`."]


def test_pictures_in_an_object_are_found_and_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    row = {"prompt": "?", "answer": "1", "multi_modal_data": {"image": ["a.png"]}}
    said = refused(tmp_path, row)
    assert "images_field: multi_modal_data.image, or leave them out: data.train.ignore: [multi_modal_data]" in said
    assert len(loaded(tmp_path, row, images_field="multi_modal_data.image").problems[0].images) == 1


def test_beside_pictures_their_names_are_to_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    row = {"prompt": "?", "answer": "1", "decoded_image": STRUCT, "image": "images/1.jpg"}
    pq.write_table(pa.Table.from_pylist([row]), path)
    with pytest.raises(DataError, match=r"images_field: decoded_image and data\.train\.ignore: \[image\], or leave"):
        load_problems(SourceConfig(path=str(path)), "data.train", on_bad_row="error")
    written = SourceConfig(path=str(path), images_field="decoded_image", ignore=("image",))
    assert load_problems(written, "data.train", on_bad_row="error").problems[0].images == (PNG,)


def test_a_list_that_was_written_as_text_is_the_list(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    found = loaded(tmp_path, *({"prompt": "?", "answer": "1", "images": text} for text in ('["a.png"]', "['a.png']")))
    assert [problem.images for problem in found.problems] == [(str(tmp_path / "a.png"),)] * 2
    said = refused(tmp_path, {"prompt": "?", "answer": "1", "images": '["a.png"'})
    assert "images[0]: '[\"a.png\"' is a list or an object that was written as text" in said


def test_a_row_that_is_nested_too_deeply_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"prompt": "a", "answer": ' + "[" * 900 + "]" * 900 + "}\n")
    with pytest.raises(DataError, match=r"x\.jsonl:1: it is nested too deeply"):
        load_problems(SourceConfig(path=str(tmp_path / "x.jsonl")), on_bad_row="error")


def test_videos_that_nothing_reads_say_how_videos_are_read(tmp_path: Path) -> None:
    said = refused(tmp_path, {"prompt": "?", "answer": "1", "video": "v.mp4"})
    assert "rows have videos in `video`" in said
    assert "Write the frames of each into `videos`" in said


def test_marks_without_images_name_the_column_that_has_them(tmp_path: Path) -> None:
    said = refused(tmp_path, {"prompt": "<image>?", "answer": "1", "img": "a.png"})
    assert "the row has 0 images. Write data.train.images_field: img" in said


def test_an_image_column_of_parquet_is_read_as_the_datasets_library_stores_it(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist([{"prompt": "?", "answer": "1", "image": STRUCT}]), path)
    (problem,) = load_problems(SourceConfig(path=str(path)), on_bad_row="error").problems
    assert problem.images == (PNG,)


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"solution": "4"}, "solution"),
        ({"ground_truth": "4"}, "ground_truth"),
        ({"target": 4}, "target"),
        ({"label": 1}, "label"),
        ({"final_answer": "4"}, "final_answer"),
        ({"answerKey": "B"}, "answerKey"),
        ({"correct_option": "B"}, "correct_option"),
        ({"expected_answer": "4"}, "expected_answer"),
        ({"gt": "4"}, "gt"),
        ({"label": False, "has_answer": True}, "label"),
        ({"reward_model": {"style": "rule", "ground_truth": "4"}}, "reward_model.ground_truth"),
        ({"extra_info": {"index": 1, "answer": "4"}}, "extra_info.answer"),
        ({"answer": None, "solution": "4"}, "solution"),
    ],
)
def test_an_answer_in_a_column_of_another_name_is_refused_with_the_line(
    tmp_path: Path, row: dict[str, Any], field: str
) -> None:
    said = refused(tmp_path, {"prompt": "2+2?", **row})
    assert f"1 of 1 rows have no `answer`, and `{field}`, which looks like one, is not read" in said
    assert f"Write data.train.answer_field: {field}, or" in said
    (problem,) = loaded(tmp_path, {"prompt": "2+2?", **row}, answer_field=field).problems
    assert str(problem.answer) in ("4", "1", "B", "False")


def test_beside_an_answer_another_column_is_only_listed(tmp_path: Path) -> None:
    found = loaded(tmp_path, {"prompt": "2+2?", "answer": "4", "solution": "2+2=4", "level": 3})
    assert found.notes == ["data.train: nothing reads the columns `level`, `solution`."]


def test_rows_without_any_answer_are_for_judges(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"prompt": "Write a poem."}).problems[0].answer is None


def test_a_field_of_an_object_that_a_row_lacks_is_no_answer_and_a_missing_column_an_error(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "r": {"g": "1"}}, {"prompt": "b", "r": {"g": None}}]
    assert [p.answer for p in loaded(tmp_path, *rows, answer_field="r.g").problems] == ["1", None]
    assert "q: is missing (data.train.answer_field names it)" in refused(tmp_path, *rows, answer_field="q.g").replace(
        "q.g: ", "q: "
    )


def test_a_column_with_a_dot_in_its_name_comes_before_a_field_of_an_object(tmp_path: Path) -> None:
    (problem,) = loaded(tmp_path, {"prompt": "a", "r.g": "1", "r": {"g": "2"}}, answer_field="r.g").problems
    assert problem.answer == "1"


# --- questions and choices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["instruction", "text", "Content", "input"])
def test_a_missing_prompt_names_the_column_that_most_likely_has_it(tmp_path: Path, name: str) -> None:
    said = refused(tmp_path, {"id": "1", name: "2+2?", "answer": "4"})
    assert f"prompt: is missing; the row has id, {name}, answer. Write data.train.prompt_field: {name}" in said


def test_without_a_likely_column_nothing_is_guessed() -> None:
    assert prompt_column(["id", "level"]) is None


@pytest.mark.parametrize(
    ("prompt", "choices", "unseen"),
    [
        ("Which is the largest?", ["ant", "whale", "dog"], True),
        ("Which? A. Ant B. Whale C. Dog", ["ant", "whale", "dog"], False),
        ("Which is larger, the ant or\nthe  WHALE?", ["the whale", "the ant"], False),
        ([{"role": "user", "content": [{"type": "text", "text": "ant, whale?"}]}], ["ant", "whale"], False),
        ([{"role": "user", "content": "Which?"}], ["ant", "whale"], True),
        ("Which is the largest?", [], False),
    ],
)
def test_choices_that_the_model_never_sees_are_said(
    tmp_path: Path, prompt: Any, choices: list[str], unseen: bool
) -> None:
    notes = loaded(tmp_path, {"prompt": prompt, "answer": "B", "choices": choices}).notes
    assert any("1 of 1 problems have choices that are not in their prompt" in note for note in notes) == unseen


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"options": ["ant", "whale"]}, "options"),
        ({"A": "ant", "B": "whale"}, "[A, B]"),
        ({"option_a": "ant", "option_b": "whale"}, "[option_a, option_b]"),
    ],
)
def test_choices_under_other_names_are_said_and_can_be_read(tmp_path: Path, row: dict[str, Any], fields: str) -> None:
    row = {"prompt": "Which?", "answer": "B", **row}
    assert any(f"Write data.train.choices_field: {fields}" in note for note in loaded(tmp_path, row).notes)
    names = fields.strip("[]").split(", ")
    (problem,) = loaded(tmp_path, row, choices_field=names if len(names) > 1 else names[0]).problems
    assert problem.choices == ("ant", "whale")


# --- what is left -----------------------------------------------------------------------------------------------------


def test_columns_of_another_meaning_can_be_left_out(tmp_path: Path) -> None:
    row = {"prompt": "a", "answer": "1", "task": 3, "meta": "x", "choices": 4, "precision": "high", "id": [1]}
    assert "If the column means something else: data.train.ignore: [id]" in refused(tmp_path, {**row, "task": None})
    assert "1 of 1 rows break a rule" in refused(tmp_path, row)
    found = loaded(tmp_path, row, ignore=["task", "meta", "choices", "precision", "id"])
    assert (found.problems[0].task, found.problems[0].id, found.notes) == (None, "rows.jsonl:1", [])


def test_a_setting_that_names_no_column_is_said(tmp_path: Path) -> None:
    row = {"prompt": "a", "answer": "1"}
    assert loaded(tmp_path, row, ignore=["tsak"]).notes == [
        "data.train: data.train.ignore names `tsak`, which no row has."
    ]
    assert "no row has `imge`, which data.train.images_field names" in refused(tmp_path, row, images_field="imge")


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"prompt": "half \ud83d char"}, "prompt: has \\ud83d at character 5"),
        ({"prompt": [{"role": "user", "content": "\udc00"}]}, "prompt[0].content"),
        ({"prompt": [{"role": "user", "content": [{"type": "text", "text": "a\ud800"}]}]}, "prompt[0].content[0].text"),
        ({"prompt": "a", "answer": ["1", "\ud800"]}, "answer[1]"),
        ({"prompt": "a", "choices": ["\ud800"]}, "choices[0]"),
        ({"prompt": "a", "id": "\ud800"}, "id"),
        ({"prompt": "a", "response_prefix": "\ud800"}, "response_prefix"),
    ],
)
def test_half_a_character_makes_a_bad_row(tmp_path: Path, row: dict[str, Any], place: str) -> None:
    assert f"rows.jsonl:1: {place}" in refused(tmp_path, row)


def test_a_whole_character_of_two_surrogates_is_fine(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"prompt": "a \\ud83d\\ude00", "answer": "1"}\n')
    (problem,) = load_problems(SourceConfig(path=str(tmp_path / "x.jsonl")), on_bad_row="error").problems
    assert problem.prompt == "a 😀"
