"""Typography that says nothing is undone; everything else stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.answers.normalize import clean, key, text_key


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (" 42 . ", "42"),
        ("４２", "42"),
        ("$42$", "42"),
        ("\\(42\\)", "42"),
        ("**42**", "42"),
        ("{42}", "42"),
        ("\\text{42}", "42"),
        ("\\textbf{\\text{42}}", "42"),
        ("1{,}234", "1,234"),
        ("1\\,234", "1234"),
        ("\\dfrac{1}{2}", "\\frac{1}{2}"),
        ("\\left(1,2\\right)", "(1,2)"),
        ("50\\%", "50%"),
        ("\\$5", "$5"),
        ("−5", "-5"),
        ("10⁻¹⁹", "10^{-19}"),
        ("x₁", "x_{1}"),
        ("11½", "11 1/2"),
        ("90^{\\circ}", "90^\\circ"),
        ("（1，2）", "(1,2)"),
        ("a \\leq b", "a \\le b"),
        ("\\color{red}{5}", "5"),
        ("...", "..."),
    ],
)
def test_clean(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


def test_the_row_break_of_a_matrix_is_no_space() -> None:
    assert "\\\\" in clean("1 \\\\ 2")


def test_the_key_drops_spaces_that_separate_nothing_only() -> None:
    assert key("x + 1") == "x+1"
    assert key("2 3") == "2 3"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("STOP", "stop."),
        ("The Cat", "cat"),
        ("“Fresh”", "fresh"),
        ("don’t", "don't"),
        ("ＡＢＣ", "abc"),
        ("50\\%", "50%"),
        ("a\nb", "a b"),
        ("你好 世界", "你好世界"),
    ],
)
def test_texts_that_read_the_same(one: str, other: str) -> None:
    assert text_key(one) == text_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("cafe", "café"), ("Plan A", "Plan"), ("A", ""), ("1,234", "1234"), ("Hi!", "Hi"), ("ice cream", "icecream")],
)
def test_texts_that_do_not(one: str, other: str) -> None:
    assert text_key(one) != text_key(other)


@given(st.text(max_size=200))
def test_normalising_never_raises_and_settles(text: str) -> None:
    key(clean(text))
    assert text_key(text_key(text)) is not None
