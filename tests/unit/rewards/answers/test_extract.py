"""Where the final answer of a response is, and where it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.answers.extract import answer_part, extract, has_filled_box, is_blank, last_box


@pytest.mark.parametrize(
    ("response", "boxes"),
    [
        ("\\boxed{1} then \\boxed{2}", ("2",)),
        ("\\boxed {42}", ("42",)),
        ("\\fbox{42}", ("42",)),
        ("\\boxed{\\frac{1}{2}}", ("\\frac{1}{2}",)),
        ("\\boxed{\\{1,2\\}}", ("\\{1,2\\}",)),
        ("\\boxed{\\boxed{42}}", ("{42}",)),
        ("{ { \\boxed{42}", ("42",)),
        ("}} \\boxed{42}", ("42",)),
        ("\\boxed{1 and \\boxed{42}", ("42",)),
        ("\\boxed{42} \\boxed{7", ("42",)),
        ("\\boxed{42} \\boxed{}", ("42",)),
        ("\\boxed{2} and \\boxed{3}", ("2", "3")),
        ("$\\boxed{2}$, $\\boxed{3}$ or $\\boxed{5}$", ("2", "3", "5")),
        ("the answer is 4, not \\boxed{3} but \\boxed{4}", ("4",)),
        ("\\boxed{4}, not \\boxed{3}", ("4",)),
    ],
)
def test_the_boxes_that_count(response: str, boxes: tuple[str, ...]) -> None:
    assert extract(response).boxes == boxes


@pytest.mark.parametrize(
    ("response", "prefix", "part"),
    [
        ("<think>a</think>b", "", "b"),
        ("a</think>b", "<think>\n", "b"),
        ("a", "", "a"),
        ("<think>a", "", None),
        ("a", "<think>\n", None),
        ("<think>a</think>b<think>c", "", None),
        ("<think>a</think>b<|im_end|>c", "", "b"),
        ("<think>a<|im_end|></think>b", "", None),
        ("b", "<think>\n\n</think>\n\n", "\n\nb"),
    ],
)
def test_the_part_that_may_hold_the_answer(response: str, prefix: str, part: str | None) -> None:
    found = answer_part(response, prefix)
    assert (None if found is None else found[0]) == part


def test_a_box_in_the_templates_own_words_is_not_an_answer() -> None:
    assert extract("I do not know.", "Write \\boxed{42}.\n").status == "no_box"
    assert extract("42}", "The answer is \\boxed{").boxes == ("42",)  # opened by the template, filled by the model


@pytest.mark.parametrize(
    "between", [" or ", ", or maybe ", "; alternatively, ", " vs ", " / ", "\n", ". It could also be ", "，也可能是"]
)
def test_a_hedge_offers_both_boxes(between: str) -> None:
    found = extract(f"\\boxed{{3}}{between}\\boxed{{4}}")
    assert set(found.rivals + found.boxes) == {"3", "4"}


@pytest.mark.parametrize(
    "between",
    [
        ". Wait, that is wrong. The answer is ",
        " -- no, sorry, ",
        "\n\nLet me recheck: ",
        " apples in the first basket. Adding the second basket gives ",
        " hours or 240 minutes. In total he works ",
        " apples. If we buy another 3 of them, we have ",
        " is the result of step 1. The result of step 2 is ",
        "。不对，应该是",
        ". So the final answer is ",
        " " + "more reasoning " * 20,
    ],
)
def test_a_correction_or_further_reasoning_leaves_the_last_box(between: str) -> None:
    found = extract(f"The answer is \\boxed{{3}}{between}\\boxed{{4}}")
    assert (found.rivals, found.boxes) == ((), ("4",))


@pytest.mark.parametrize("blank", ["", " ", "\n", "\\,", "\\text{}", "{}", "\\quad", "\u200b"])
def test_a_box_that_shows_nothing_is_empty(blank: str) -> None:
    assert is_blank(blank)
    assert extract(f"\\boxed{{{blank}}}").status == "empty"
    assert not has_filled_box(f"\\boxed{{{blank}}}")


def test_the_last_box_of_a_solution_is_its_answer() -> None:
    assert last_box("so \\boxed{1} and \\boxed{\\frac{1}{2}}.") == "\\frac{1}{2}"
    assert last_box("none") is None


@given(st.text())
def test_extraction_never_raises(text: str) -> None:
    extract(text, text[:10])


@given(
    st.lists(st.sampled_from(["\\boxed{", "{", "}", "\\{", "\\\\", "a", "<think>", "</think>", " or "])).map("".join)
)
def test_every_box_found_is_balanced(text: str) -> None:
    for box in extract(text).boxes:
        bare = box.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
        assert bare.count("{") == bare.count("}")
