"""Answers that are made of other answers: parts, environments, formulas, answers with a qualifier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.answers.conditions import all_integers, excepted, integers, qualified
from rewards.answers.environments import unwrap
from rewards.answers.logic import formula, is_formula, same_form
from rewards.answers.parts import parts
from rewards.answers.separators import split_top


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(b) 2, (a) 7", [("a", "7"), ("b", "2")]),
        ("(i) 4; (ii) 9", [("i", "4"), ("ii", "9")]),
        ("A: 7, B: 2", [("A", "7"), ("B", "2")]),
        ("Part (a): 1 and Part (b): 2", [("a", "1"), ("b", "2")]),
        ("(a) (1,2) (b) (3,4)", [("a", "(1,2)"), ("b", "(3,4)")]),
        ("(a)(b+c)", None),
        ("(2)(3)", None),
        ("(a) 7", None),
        ("(a) 7 (c) 2", None),  # not the first labels of their kind
        ("(a) 7 (a) 2", None),
    ],
)
def test_parts_have_the_first_labels_of_their_kind(text: str, expected: list[tuple[str, str]] | None) -> None:
    assert parts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\begin{aligned}S&=2+3\\\\&=5\\end{aligned}", "S =2+3=5"),
        ("\\begin{gathered}x+3\\end{gathered}", "x+3"),
        ("\\begin{cases}x=3\\\\y=-8\\end{cases}", "x=3, y=-8"),
        ("\\begin{cases}2x,&x>1\\\\5&otherwise\\end{cases}", [("2x", "x>1"), ("5", "")]),
        ("\\{\\begin{array}{l}x=1\\\\y=2\\end{array}", "x=1, y=2"),
        ("\\begin{array}{cc}1&2\\\\3&4\\end{array}", None),  # a matrix
        ("\\begin{cases}x=1\\end{cases} or \\begin{cases}x=2\\end{cases}", None),  # two of them
    ],
)
def test_an_environment_is_what_it_displays(text: str, expected: object) -> None:
    assert unwrap(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3n-2, n \\ge 1", ("3n-2", "n \\ge 1")),
        ("6x for all real numbers x", ("6x", "real numbers x")),
        ("4k+1 (k \\in \\mathbb{Z})", ("4k+1", "k \\in \\mathbb{Z}")),
        ("x > 0, x \\ne 2", None),  # conditions, no answer before them
        ("3, n \\ge 1", None),  # about something else
        ("x=3, y=4", None),
    ],
)
def test_a_qualifier_is_about_the_answer_before_it(text: str, expected: tuple[str, str] | None) -> None:
    assert qualified(text) == expected


def test_a_qualifier_may_declare_integers() -> None:
    assert integers("k \\in \\mathbb{Z}") == {"k"}
    assert integers("m, n are integers") == {"m", "n"}
    assert integers("x \\in \\mathbb{R}") == set()
    assert all_integers("k \\in \\mathbb{Z}", "")
    assert not all_integers("k \\in \\mathbb{Z}", "n \\in \\mathbb{N}")  # a sequence starts somewhere
    assert not all_integers("", "")


def test_all_numbers_but_some() -> None:
    assert excepted("all real numbers except 3") == ("", "3")
    assert excepted("x \\ge 0 except 5") == ("x \\ge 0", "5")
    assert excepted("no numbers here") is None


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("p \\land q", "q \\land p", True),
        ("p \\land q", "p \\lor q", False),
        ("p \\to q", "q \\to p", False),
        ("p \\land q \\land r", "r \\land p \\land q", True),
        ("p \\land (q \\lor r)", "(p \\land q) \\lor r", False),
        ("\\lnot (p \\lor q)", "\\lnot p \\lor q", False),
        ("p \\to (q \\to r)", "(p \\to q) \\to r", False),
    ],
)
def test_formulas_are_equal_in_form_and_only_the_order_of_a_chain_is_free(
    gold: str, answer: str, verdict: bool
) -> None:
    g, a = formula(gold, split_top), formula(answer, split_top)
    assert g is not None
    assert a is not None
    assert same_form(g, a, lambda x, y: x == y) is verdict


def test_the_arrow_of_a_limit_is_no_connective() -> None:
    assert is_formula("p \\to q")
    assert not is_formula("\\lim_{x\\to 3} x")


_SCRAPS = st.lists(
    st.sampled_from(
        ["(a)", "(b) ", "A:", "1", "x", "\\begin{cases}", "\\end{cases}", "&", "\\\\", "=", " if ", "p", "\\land ",
         "\\lnot ",
         "(", ")", "\\to ", ", ", "n \\ge 1", " for all ", "\\in ", "\\mathbb{Z}", " except ", "\\setminus", "{", "}"]
    ),
    max_size=20,
).map("".join)  # fmt: skip


@given(_SCRAPS)
def test_no_text_breaks_any_of_them(text: str) -> None:
    parts(text)
    unwrap(text)
    qualified(text)
    excepted(text)
    formula(text, split_top)
