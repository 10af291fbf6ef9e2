"""The contract of a problem row, field by field: what is taken, and what is refused with field and rule."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sailrl.data.contract import BrokenRow, parse_problem, problem_from_row
from sailrl.errors import DataError
from sailrl.types import Problem


def parsed(row: Any, folder: Path | None = None, need_prompt: bool = True) -> Problem:
    return parse_problem(row, where="f.jsonl:7", need_prompt=need_prompt, folder=folder)


def broken(row: Any, folder: Path | None = None, need_prompt: bool = True) -> str:
    with pytest.raises(BrokenRow) as error:
        parsed(row, folder, need_prompt)
    return f"{error.value.field}: {error.value.rule}"


def test_the_smallest_row_is_a_prompt_and_is_named_after_its_line() -> None:
    assert parsed({"prompt": "1 + 1?"}) == Problem(prompt="1 + 1?", id="f.jsonl:7")


def test_every_field_of_the_contract_arrives() -> None:
    row = {
        "prompt": "Which?",
        "answer": "B",
        "id": "q1",
        "response_prefix": "<think>\n",
        "choices": ["one", "two"],
        "precision": 2,
        "task": "choice",
        "meta": {"source": "exam"},
        "difficulty": 3,  # not in the contract: left alone
    }
    expected: dict[str, Any] = {**row, "choices": ("one", "two")}
    del expected["difficulty"]
    assert parsed(row) == Problem(**expected)


def test_null_means_that_the_field_is_not_there() -> None:
    # Parquet has a value for every column in every row.
    nothing = dict.fromkeys(("answer", "id", "response_prefix", "images", "choices", "precision", "task", "meta"), None)
    assert parsed({"prompt": "1 + 1?", **nothing}) == parsed({"prompt": "1 + 1?"})


@pytest.mark.parametrize(
    ("stored", "answer"),
    [
        (Decimal("2.5000"), "2.5"),
        (Decimal("300"), "300"),
        (Decimal("12345678901234567890123456789.10"), "12345678901234567890123456789.1"),
        (datetime.date(2023, 5, 1), "2023-05-01"),
        (datetime.datetime(2023, 5, 1), "2023-05-01"),
        (datetime.datetime(2023, 5, 1, 14, 30), "2023-05-01 14:30:00"),
        (datetime.time(14, 30), "14:30:00"),
        ([Decimal("0.10"), 3], ["0.1", 3]),
    ],
)
def test_decimals_and_dates_of_parquet_are_answers_as_text(stored: Any, answer: Any) -> None:
    assert parsed({"prompt": "p", "answer": stored}).answer == answer


@pytest.mark.parametrize("answer", ["x", "1,080", 3, 2.5, True, False, ["a", 1], [[0, 0, 5, 5], [1, 1, 2, 2]], [], ""])
def test_answers_are_text_numbers_truth_values_and_lists_of_them(answer: Any) -> None:
    assert parsed({"prompt": "p", "answer": answer}).answer == answer


def test_a_whole_number_is_a_good_id() -> None:
    assert parsed({"prompt": "p", "id": 12}).id == "12"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["p"], ": a row is an object with named fields, this is a list"),
        ("p", ": a row is an object with named fields, this is text"),
        ({"question": "p", "answer": 1}, "prompt: is missing; the row has question, answer"),
        ({}, "prompt: is missing; the row has nothing"),
        ({"prompt": " \n"}, "prompt: is empty"),
        ({"prompt": 5}, "prompt: must be text or a list of chat messages, this is the number 5"),
        (
            {"prompt": "p", "answer": {"a": 1}},
            "answer: must be text, a number, true or false, or a list of these, this is an object",
        ),
        (
            {"prompt": "p", "answer": ["a", None]},
            "answer: as a list must hold text, numbers, true and false only, this is null",
        ),
        ({"prompt": "p", "answer": Decimal("NaN")}, "answer: must be finite, this is NaN"),
        ({"prompt": "p", "answer": float("nan")}, "answer: must be finite, this is nan"),
        ({"prompt": "p", "id": ""}, "id: is empty; leave it out and the row is named after its line"),
        ({"prompt": "p", "id": 1.5}, "id: must be text or a whole number, this is the number 1.5"),
        ({"prompt": "p", "id": True}, "id: must be text or a whole number, this is true"),
        ({"prompt": "p", "response_prefix": 1}, "response_prefix: must be text, this is the number 1"),
        ({"prompt": "p", "choices": "AB"}, "choices: must be a list of text, this is or holds text"),
        ({"prompt": "p", "choices": ["a", 2]}, "choices: must be a list of text, this is or holds the number 2"),
        ({"prompt": "p", "precision": True}, "precision: must be a whole number of decimals, this is true"),
        ({"prompt": "p", "precision": 2.5}, "precision: must be a whole number of decimals, this is the number 2.5"),
        ({"prompt": "p", "precision": -1}, "precision: must be at least 0, this is -1"),
        ({"prompt": "p", "task": ["math"]}, "task: must be text, this is a list"),
        ({"prompt": "p", "meta": "x"}, "meta: must be an object, this is text"),
        ({"prompt": "p", "images": "a.png"}, "images: must be a list of paths or bytes, this is text"),
        (
            {"prompt": "p", "images": [3]},
            "images[0]: must be a path or the bytes of an image file, this is the number 3",
        ),
        ({"prompt": "p", "images": [b""]}, "images[0]: must be a path or the bytes of an image file, this is empty"),
        (
            {"prompt": "p", "images": ["http://x/y.png"]},
            "images[0]: 'http://x/y.png' is an address; images are files, nothing is downloaded",
        ),
    ],
)
def test_a_field_that_breaks_a_rule_is_named_with_the_rule(row: Any, message: str) -> None:
    assert broken(row) == message


def test_the_error_for_people_has_the_place_in_front() -> None:
    with pytest.raises(DataError) as error:
        problem_from_row({"prompt": "p", "precision": -1}, where="out.jsonl:3", need_prompt=True)
    assert str(error.value) == "out.jsonl:3: precision: must be at least 0, this is -1."


# --- chats ---------------------------------------------------------------------------------------------------------


def test_a_chat_of_texts_and_parts_arrives_as_it_is() -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]},
    ]
    assert parsed({"prompt": chat}).prompt == chat


def test_nulls_that_parquet_puts_into_parts_are_removed() -> None:
    chat = [{"role": "user", "content": [{"type": "text", "text": "What?", "image": None}], "name": None}]
    assert parsed({"prompt": chat}).prompt == [{"role": "user", "content": [{"type": "text", "text": "What?"}]}]


def user(content: Any) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": []}, "prompt: as a chat must end with a message to answer (the user's), but it has none"),
        (
            {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "prompt: as a chat must end with a message to answer (the user's), but it ends with the assistant's",
        ),
        ({"prompt": ["hello"]}, "prompt[0]: must be an object with role and content, this is text"),
        (
            {"prompt": [{"role": "human", "content": "a"}]},
            "prompt[0].role: must be one of system, user, assistant, tool, this is 'human'",
        ),
        ({"prompt": [{"content": "a"}]}, "prompt[0].role: must be one of system, user, assistant, tool, this is None"),
        ({"prompt": [{"role": "user"}]}, "prompt[0].content: must be text or a list of parts, this is null"),
        (user([3]), "prompt[0].content[0]: must be an object with a type, this is the number 3"),
        (user([{"type": "text"}]), "prompt[0].content[0].text: must be text, this is null"),
        (user([{"type": "audio"}]), "prompt[0].content[0].type: must be text, image or video, this is 'audio'"),
        (
            user([{"type": "image", "file": "a.png"}]),
            "prompt[0].content[0]: a part of type image has file; it is a mark alone, or has its picture as `image`",
        ),
    ],
)
def test_a_malformed_chat_is_named_down_to_the_part(row: Any, message: str) -> None:
    assert broken(row) == message


# --- images --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"png")
    return tmp_path


def test_paths_start_at_the_folder_of_the_file_and_become_absolute(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parsed({"prompt": "p", "images": ["a.png"]}, folder).images == (str(folder / "a.png"),)
    monkeypatch.chdir(folder)
    assert parsed({"prompt": "p", "images": ["a.png"]}, Path()).images == (str(folder / "a.png"),)
    assert parsed({"prompt": "p", "images": [str(folder / "b.png")]}).images == (str(folder / "b.png"),)


def test_bytes_and_the_datasets_librarys_objects_are_images_too(folder: Path) -> None:
    images = [b"png", {"bytes": b"jpg", "path": None}, {"bytes": None, "path": "a.png"}]
    assert parsed({"prompt": "p", "images": images}, folder).images == (b"png", b"jpg", str(folder / "a.png"))


def test_a_missing_image_is_refused_with_its_full_path(folder: Path) -> None:
    assert broken({"prompt": "p", "images": ["a.png", "c.png"]}, folder) == (
        f"images[1]: there is no file {folder / 'c.png'}; paths are relative to the file of the row"
    )


@pytest.mark.parametrize(
    "prompt",
    [
        "Compare.",  # a text without marks has its images in front, and so has a chat
        [{"role": "user", "content": "Compare."}],
        "Compare <image> and <image>.",
        [{"role": "user", "content": "Compare <image> and <image>."}],
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "and <image>?"}]}],
    ],
)
def test_as_many_marks_as_images_are_fine(folder: Path, prompt: Any) -> None:
    parsed({"prompt": prompt, "images": ["a.png", "b.png"]}, folder)


@pytest.mark.parametrize(
    ("prompt", "marks"),
    [
        ("Look at <image>.", 1),
        ("<image><image><image>", 3),
        ([{"role": "user", "content": [{"type": "image"}]}], 1),
    ],
)
def test_more_or_fewer_marks_than_images_are_refused(folder: Path, prompt: Any, marks: int) -> None:
    assert broken({"prompt": prompt, "images": ["a.png", "b.png"]}, folder) == (
        f"images: the prompt has {marks} image marks (`<image>` or parts of type image), but the row has 2 images"
    )


def test_a_mark_without_an_image_is_refused() -> None:
    assert broken({"prompt": "Look at <image>."}).startswith("images: the prompt has 1 image marks")


# --- scoring -------------------------------------------------------------------------------------------------------


def test_scoring_needs_neither_prompt_nor_image_files() -> None:
    row = {"response": "\\boxed{2}", "answer": "2", "images": ["gone.png"]}
    problem = parsed(row, Path("/data"), need_prompt=False)
    assert problem == Problem(answer="2", id="f.jsonl:7", images=("/data/gone.png",))


def test_scoring_still_refuses_fields_it_would_misread() -> None:
    assert broken({"precision": "two"}, need_prompt=False).startswith("precision: ")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["prompt", "answer", "id", "response_prefix", "images", "choices", "precision", "task", "meta"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values), st.booleans())
def test_any_row_is_either_a_problem_or_a_broken_row(row: dict[str, Any], need_prompt: bool) -> None:
    try:
        problem = parsed(row, need_prompt=need_prompt)
    except BrokenRow:
        return
    assert isinstance(problem, Problem)
    assert problem.id


def test_a_whole_number_of_decimals_may_come_as_a_float_from_a_table_with_gaps() -> None:
    problem = problem_from_row({"prompt": "p", "precision": 2.0}, where="t.parquet:1", need_prompt=True)
    assert problem.precision == 2
    assert isinstance(problem.precision, int)
