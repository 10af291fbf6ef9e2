"""The parts of a response, and fences that no text gets out of."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.answers.extract import answer_part
from rewards.judge_api.text import ResponseParts, field, free_tag, plain, question_text, shorten, split_response
from sailrl.types import Problem
from tests.fakes.clock import processor_s


def split(response: str, prefix: str = "") -> ResponseParts:
    return split_response(response, Problem(response_prefix=prefix))


@pytest.mark.parametrize(
    ("response", "parts"),
    [
        ("<think>a b</think>\n42", ResponseParts("", "a b", "42")),
        ("42", ResponseParts("", "", "42")),
        ("<think>\n\n</think>\n42", ResponseParts("", "", "42")),
        ("<judge>Needs thought.</judge>\n<think>a</think>42", ResponseParts("Needs thought.", "a", "42")),
        ("<judge>Easy.</judge>\n42", ResponseParts("Easy.", "", "42")),
        ("<think>a</think>b</think>42", ResponseParts("", "a</think>b", "42")),
        ("<think>still at it", ResponseParts("", "still at it", None)),
        ("<think>a</think>42<think>again", ResponseParts("", "a</think>42<think>again", None)),
        ("a</think>42", ResponseParts("", "a", "42")),  # the template opened it, and nobody said so
        ("<think>a</think>", ResponseParts("", "a", "")),
        ("<think>a</think>42<|im_end|>\nuser: now 43", ResponseParts("", "a", "42")),
        ("<think>a <judge>b</judge></think>42", ResponseParts("", "a <judge>b</judge>", "42")),
        ("<think>\u200b\n\ufeff</think>42", ResponseParts("", "", "42")),  # nothing that anybody could see
        ("", ResponseParts("", "", "")),
    ],
)
def test_a_response_is_taken_apart_as_the_recipe_writes_it(response: str, parts: ResponseParts) -> None:
    assert split(response) == parts


def test_what_the_template_wrote_counts_as_part_of_the_response() -> None:
    assert split("a</think>42", prefix="<think>\n") == ResponseParts("", "a", "42")
    assert split("never stops", prefix="<think>\n") == ResponseParts("", "never stops", None)
    assert split("never stops") == ResponseParts("", "", "never stops")  # without the prefix it would be an answer


TAGS = ["<think>", "</think>", "<judge>", "</judge>", "<|im_end|>", "</s>", "\\boxed{1}", "x", "\n", " "]


@given(st.lists(st.sampled_from(TAGS), max_size=12).map("".join), st.sampled_from(["", "<think>\n"]))
def test_a_judge_and_a_rule_agree_where_the_answer_is(response: str, prefix: str) -> None:
    part = answer_part(response, prefix)
    got = split(response, prefix)
    assert (part is None) == (got.answer is None)
    if part is not None and not got.judgment and "<judge>" not in response:
        assert got.answer == part[0].strip()


@pytest.mark.parametrize("unit", ["<think>", "</think>", "<judge>", "{", "<|im_end|", "a"])
def test_splitting_and_fencing_megabytes_is_linear(unit: str) -> None:
    text = unit * (2_000_000 // len(unit))
    assert processor_s(lambda: (split(text), field("RESPONSE", text, 10_000_000)), limit_s=1.0) < 1.0


# --- fences ----------------------------------------------------------------------------------------------------------


def inside(fenced: str) -> str:
    """Reads a field the way the judge is told to: up to the first END line with the tag of the BEGIN line."""
    begin = re.match(r"\[BEGIN (\w+) (\w+)\]\n", fenced)
    assert begin is not None
    content, closing, rest = fenced[begin.end() :].partition(f"\n[END {begin[1]} {begin[2]}]")
    assert closing
    assert rest == ""
    return content


@given(st.text())
def test_a_field_ends_where_its_text_ends(text: str) -> None:
    assert inside(field("RESPONSE", text, 10_000)) == plain(text)


def test_a_text_that_holds_its_own_tag_gets_another_one() -> None:
    """With twelve digits nobody can write such a text; with one digit it is easy, and one way out is enough."""
    assert free_tag("0123456789abcde", digits=1) == "f"
    assert free_tag("123456789abcdef", digits=1) == "0"


def test_equal_texts_have_equal_fences_and_others_do_not() -> None:
    assert field("RESPONSE", "a", 100) == field("RESPONSE", "a", 100)
    tags = {fenced.split()[2] for fenced in (field("RESPONSE", "a", 100), field("RESPONSE", "b", 100))}
    assert len(tags) == 2


CONTROL_TOKENS = """
    <|im_end|> <|im_start|> <|image_pad|> <|vision_start|> <|eot_id|> <｜Assistant｜> </s> <s> <bos> <end_of_turn>
    <start_of_turn> [INST] [/INST] <<SYS>> <</SYS>> <image> <IMG_CONTEXT> <img> </img>
"""


@pytest.mark.parametrize("token", CONTROL_TOKENS.split())
def test_no_control_token_survives(token: str) -> None:
    cleaned = plain(f"a {token} b {token}")
    assert token not in cleaned
    assert cleaned.replace(" ", "") == f"a{token}b{token}".replace(" ", "")  # a reader still sees what it was


@pytest.mark.parametrize(
    "text", ["if a < b then |x| = 2", "<think>so</think>", "a[1] <= [2]", "x<y>z", "中文 ½ \\boxed{}"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert plain(text) == text


def test_what_json_or_a_tokenizer_could_choke_on_is_replaced() -> None:
    assert plain("a\x00b\ud800c\x1bd\te\n") == "a\ufffdb\ufffdc\ufffdd\te\n"


def test_long_texts_keep_both_ends_and_say_what_is_missing() -> None:
    short = shorten("a" * 60 + "b" * 1000 + "c" * 60, 100)
    assert short == "a" * 50 + "\n[... 1020 characters left out ...]\n" + "c" * 50
    assert shorten("abc", 3) == "abc"


def test_questions_are_read_from_strings_and_from_chat_messages() -> None:
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}
    assert question_text(Problem(prompt="How many?")) == "How many?"
    assert question_text(Problem(prompt=[user])) == "[image]\nHow many?"
    assert question_text(Problem(prompt=[{"role": "system", "content": "Be brief."}, user])) == (
        "system: Be brief.\n\nuser: [image]\nHow many?"
    )
