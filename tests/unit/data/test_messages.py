"""Prompts as text or chat: what is read, where pictures stand, and what is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sailrl.data.contract import parse_problem
from sailrl.data.fields import BrokenRow
from sailrl.data.messages import parse_prompt
from sailrl.types import Problem, content_parts, content_text, content_texts

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "0+1=?"}]


def parsed(row: Any, folder: Path | None = None) -> Problem:
    return parse_problem(row, where="f.jsonl:7", need_prompt=True, folder=folder)


def broken(row: Any, folder: Path | None = None) -> str:
    with pytest.raises(BrokenRow) as error:
        parsed(row, folder)
    return f"{error.value.field}: {error.value.rule}"


# --- a chat as text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CHAT),
        json.dumps(CHAT, indent=2),
        "  " + json.dumps(CHAT) + "\n",
        repr(CHAT),  # what pandas writes into CSV
        json.dumps([{"content": m["content"], "role": m["role"]} for m in CHAT]),
    ],
)
def test_a_chat_that_was_written_as_text_is_read_as_the_chat(text: str) -> None:
    assert parsed({"prompt": text}).prompt == CHAT


def test_one_message_as_text_is_a_chat_of_one() -> None:
    assert parsed({"prompt": json.dumps(CHAT[1])}).prompt == CHAT[1:]


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2, 3]",
        '{"a": 1}',
        "What is [x] in {y}?",
        '{"role": "user"} is what?',
        "[{'x': 1}]",
        '["role", "content"]',
        "Solve: [{x: role}, {y: content}]",
    ],
)
def test_a_question_with_brackets_stays_a_question(text: str) -> None:
    assert parsed({"prompt": text}).prompt == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{'role': 'user', 'content': 'a'} {'role': 'user', 'content': 'b'}]", "neither JSON nor Python"),  # numpy
        ('[{"role": "user", "content": "a}]', "neither JSON nor Python"),
        ('[{"from": "alien", "value": "a"}]', "prompt[0].role: must be one of"),
        ('[{"role": "human", "content": "a"}]', "prompt[0].role: must be one of"),
    ],
)
def test_a_chat_as_text_that_cannot_be_read_is_refused(text: str, says: str) -> None:
    assert says in broken({"prompt": text})


@given(st.text(max_size=60))
def test_any_text_is_a_prompt_or_a_broken_row(text: str) -> None:
    with suppress(BrokenRow):
        assert parse_prompt(text)[1] == []


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"png")
    return tmp_path


def test_pictures_without_marks_stand_in_front_of_the_first_turn_of_the_user(folder: Path) -> None:
    chat = [*CHAT, {"role": "assistant", "content": "1"}, {"role": "user", "content": "And now?"}]
    prompt = parsed({"prompt": chat, "images": ["a.png", "b.png"]}, folder).prompt
    assert prompt[1] == {
        "role": "user",
        "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "0+1=?"}],
    }
    assert [prompt[0], *prompt[2:]] == [chat[0], *chat[2:]]


def test_parts_of_type_image_may_have_their_picture(folder: Path) -> None:
    content = [
        {"type": "image", "image": "b.png"},
        {"type": "text", "text": "or"},
        {"type": "image", "image": {"bytes": b"png", "path": None}, "text": None},
    ]
    problem = parsed({"prompt": [{"role": "user", "content": content}]}, folder)
    assert problem.images == (str(folder / "b.png"), b"png")
    assert not isinstance(problem.prompt, str)
    assert problem.prompt[0]["content"] == [{"type": "image"}, {"type": "text", "text": "or"}, {"type": "image"}]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"prompt": [{"role": "user", "content": [{"type": "image", "image": "c.png"}]}]},
            "there is no file",
        ),
        ({"prompt": [{"role": "user", "content": [{"type": "image", "image": "http://x/y"}]}]}, "is an address"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}], "images": ["b.png"]},
            "images: are given twice",
        ),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "c.png"}}]}]},
            "there is no file",
        ),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "image"}]}]},
            "images: the prompt has 2 image marks",
        ),
        ({"prompt": [{"role": "user", "content": "?", "images": ["a.png"]}]}, "prompt[0].images: is a picture"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "text", "text": "?", "image": "a.png"}]}]},
            "prompt[0].content[0].image: is a picture",
        ),
        (
            {"prompt": "Look at <image 1>.", "images": ["a.png"]},
            "has `<image 1>`, which would be read as words",
        ),
        ({"prompt": "Look at <image_1>."}, "has `<image_1>`"),
        ({"prompt": "<ImageHere>?", "images": ["a.png"]}, "has `<ImageHere>`"),
        ({"prompt": [{"role": "user", "content": "<|image_1|>?"}], "images": ["a.png"]}, "has `<|image_1|>`"),
        ({"prompt": "[image] What?", "images": ["a.png"]}, "has `[image]`"),
        ({"prompt": [{"role": "user", "content": "  "}]}, "prompt[0].content: is empty"),
    ],
)
def test_a_picture_or_a_mark_that_nothing_would_read_is_refused(folder: Path, row: Any, says: str) -> None:
    assert says in broken(row, folder)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "What does <img> mean in HTML?"},
        {"prompt": "Is [image] a word?"},
        {"prompt": "<image> is not <image 1>.", "images": ["a.png"]},
        {"prompt": [{"role": "user", "content": "?", "name": "Ann", "weight": 0}]},
        {"prompt": [{"role": "user", "content": ""}], "images": ["a.png"]},
    ],
)
def test_words_that_only_look_like_marks_stay(folder: Path, row: Any) -> None:
    parsed(row, folder)


# --- the one reader of content ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "texts", "text"),
    [
        ("a", ["a"], "a"),
        ([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}], ["a", "b"], "a<image>b"),
        ([], [], ""),
        (None, [], ""),
        ([{"type": "text"}, 3, "x", {"type": "text", "text": 5}], ["", "5"], "5"),
    ],
)
def test_content_is_read_in_one_way_whatever_it_is(content: Any, texts: list[str], text: str) -> None:
    assert content_texts(content) == texts
    assert content_text(content) == text
    assert all(isinstance(part, dict) for part in content_parts(content))


def test_parts_may_stand_apart_and_have_other_marks() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "video"}]
    assert content_text(content, between="\n", mark="[{}]") == "a\n[video]"
