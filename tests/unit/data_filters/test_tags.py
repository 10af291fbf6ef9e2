from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_filters.tags import NormaliseTags, strip_prompt, unify_response
from rewards.think_format import ThinkFormat
from sailrl.types import Problem
from tests.fakes.clock import processor_s

FORM = "<think>\n3 + 1\n</think>\n\n\\boxed{4}"


@pytest.mark.parametrize(
    "response",
    [
        FORM,
        "<think>3 + 1</think>\\boxed{4}",
        "<THINK>3 + 1</THINK><answer>4</answer>",
        "<thinking>3 + 1</thinking>\n<answer> \\boxed{4} </answer>",
        "<thought>3 + 1</thought>\n#### 4",
        "<|begin_of_thought|>3 + 1<|end_of_thought|>\n<|begin_of_solution|>\\boxed{4}<|end_of_solution|>",
        "◁think▷3 + 1◁/think▷\\boxed{4}",
        "[THINK]3 + 1[/THINK]\\boxed{4}",
        "<REASONING>3 + 1</REASONING>\n<CONCLUSION>4</CONCLUSION>",
        "3 + 1</think>4",
    ],
)
def test_every_spelling_becomes_the_one_form(response):
    conversion = NormaliseTags().convert({"response": response, "answer": "4"})
    assert conversion.row is not None
    assert conversion.row["response"] == FORM
    assert conversion.verdict.reason == ("kept" if response == FORM else "normalised")


def test_llava_cot_keeps_its_summary_and_caption_in_the_thought():
    response = (
        "<SUMMARY>I add.</SUMMARY><CAPTION>Two numbers.</CAPTION><REASONING>3 + 1</REASONING><CONCLUSION>4</CONCLUSION>"
    )
    assert unify_response(response, "4") == "<think>\nI add.\n\nTwo numbers.\n\n3 + 1\n</think>\n\n\\boxed{4}"


def test_a_sentence_keeps_its_words_and_gets_the_box_only_when_it_has_the_answer():
    unified = unify_response("<think>3 + 1</think>There are 4.", "4")
    assert unified.endswith("There are 4.\n\n\\boxed{4}")
    for tail in ("There are 14.", "There are 4.5 litres.", "Nobody knows."):
        assert NormaliseTags()({"response": f"<think>3 + 1</think>{tail}", "answer": "4"}).reason == "no_box"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("\\boxed{4}", "no_think"),
        ("<think>3 + 1", "no_think"),
        ("<think> </think>\\boxed{4}", "blank_thinking"),
        ("<think>a</think><think>b</think>\\boxed{4}", "several_thinks"),
        ("<think>a</think>\\boxed{}", "no_box"),
        ("", "no_think"),
    ],
)
def test_what_does_not_reach_the_form_is_dropped_with_the_reason_of_the_format_reward(response, reason):
    conversion = NormaliseTags().convert({"response": response})
    assert (conversion.row, conversion.verdict.keep, conversion.verdict.reason) == (None, False, reason)


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "\\boxed{4}", "a ", "\n", "<thought>"]))
)
def test_what_is_kept_passes_the_format_reward_and_does_not_change_again(pieces):
    conversion = NormaliseTags().convert({"response": "".join(pieces), "answer": "4"})
    if conversion.row is not None:
        response = conversion.row["response"]
        assert ThinkFormat()(response, Problem()).value == 1.0
        assert unify_response(response, "4") == response


def test_system_prompts_and_hints_about_the_form_go_and_the_question_stays():
    hint = "Answer the question using a single word or phrase."
    assert strip_prompt(f"How many?\n{hint}") == "How many?"
    assert strip_prompt("How many? Let's think step by step and put the answer in \\boxed{}") == "How many?"
    ask = "You FIRST think about the reasoning process as an internal monologue. Put it in \\boxed{}."
    assert strip_prompt(f"How many? {ask}") == "How many?"
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": f"How many? {hint}"}]},
    ]
    assert strip_prompt(chat) == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}
    ]
    assert strip_prompt("How many steps does a robot that can think take?").endswith("take?")


def test_long_hostile_texts_take_no_time():
    for piece in (
        "<answer>",
        "#### a ",
        "<think>",
        "</think>",
        "<thought></thought>",
        " ",
        "\\boxed{",
        "think step by step ",
    ):
        text = "<think>a</think>" + piece * 4000 + "b"
        row = {"prompt": text, "response": text, "answer": "4"}
        took = processor_s(partial(NormaliseTags().convert, row), limit_s=1.0)
        assert took < 1.0  # milliseconds; quadratic scans take minutes at this length


def test_prompts_can_be_left_alone():
    row = {"prompt": "How many? Answer briefly.", "response": FORM}
    assert NormaliseTags(strip_prompts=False).convert(row).row == row
    assert NormaliseTags().convert(row).row == {"prompt": "How many?", "response": FORM}
