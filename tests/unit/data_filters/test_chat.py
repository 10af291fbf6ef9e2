from typing import Any

import pytest

from data_filters.chat import prompt_messages
from sailrl.errors import DataError

IMAGE = {"type": "image"}


def text(words):
    return {"type": "text", "text": words}


def test_images_come_first_unless_the_text_marks_every_one():
    assert prompt_messages({"prompt": "q", "images": ["a", "b"]}, "", True)[0]["content"] == [IMAGE, IMAGE, text("q")]
    marked = {"prompt": "Compare <image> with <image>.", "images": ["a", "b"]}
    assert prompt_messages(marked, "", True)[0]["content"] == [
        text("Compare "),
        IMAGE,
        text(" with "),
        IMAGE,
        text("."),
    ]
    once = {"prompt": "The tag <image> and q", "images": ["a", "b"]}
    assert prompt_messages(once, "", True)[0]["content"] == [IMAGE, IMAGE, text("The tag <image> and q")]


def test_chat_prompts_keep_their_turns_and_the_instruction_ends_the_last_user_turn():
    prompt: list[dict[str, Any]] = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [IMAGE, text("one")]},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    messages = prompt_messages({"prompt": prompt, "images": ["a"]}, "Think.", True)
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[1]["content"] == [IMAGE, text("one")]
    assert messages[3]["content"] == [text("three\nThink.")]
    assert prompt[1]["content"][1]["text"] == "one"  # the input is left as it was


@pytest.mark.parametrize("instruction", ["", "Think.", "q"])
def test_plain_text_comes_out_the_same_as_a_string_and_as_a_chat(instruction):
    chat = [{"role": "user", "content": "q "}]
    assert prompt_messages({"prompt": "q "}, instruction, False) == prompt_messages(
        {"prompt": chat}, instruction, False
    )


def test_an_instruction_after_a_last_image_becomes_its_own_part():
    row = {"prompt": [{"role": "user", "content": [text("q"), IMAGE]}], "images": ["a"]}
    assert prompt_messages(row, "Think.", True)[0]["content"] == [text("q"), IMAGE, text("\nThink.")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": [{"role": "user", "content": [IMAGE, text("q")]}]}, "1 images and the row has 0"),
        ({"prompt": [{"role": "user", "content": [text("q")]}], "images": ["a"]}, "0 images and the row has 1"),
        ({"prompt": [{"role": "system", "content": "s"}]}, "no user turn"),
    ],
)
def test_prompts_that_do_not_fit_their_images_are_refused(row, message):
    with pytest.raises(DataError, match=message):
        prompt_messages(row, "", True)
