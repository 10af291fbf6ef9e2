"""What a response may cost the process that scores it: little, whatever a model repeats in it. Training scores inline
in its event loop, so a slow response would hold up everything else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from rewards.answers import cost, gold, latex, structure, units
from rewards.answers.compare import compare
from rewards.answers.latex import TooLarge
from rewards.boxed import BoxedAnswer, _decide
from rewards.judge_api.text import split_response
from rewards.repetition import Repetition
from rewards.think_format import ThinkFormat
from sailrl.types import Problem, Score
from tests.fakes.clock import processor_s

LIMIT_S = 0.3
"""At most 0.1 s on a quiet machine. Processor time grows, too, where others use the same cores and caches."""
MEGABYTE = 1_000_000

# fmt: off
TOKENS = (
    "word ", "a ", "A ", "Ab ", "I ", "cm ", "m/s ", "1", "12 ", "1,", "1, ", "0.", "1.5 ", "1e5 ", "-", "+1", "1+",
    "1/2 ", "1 1/2 ", "x", "x ", "xy+", "x^2+", "x_1 ", "x=1, ", "x=1 |x|", "!x=1,is ",
    "x=", "f(x)=", "f(", "(x)", "sin ", "2 sin x ", "!",
    "%", "5% ", "$", "$1 ", "$1M ", "and ", "1 and ", " or ", "or x=", "x<1 or ", "x>1 and ", "the answer is ", "is ",
    "there are 5 ", "not ", "no ", "yes ", "one ", "one hundred ", "one and a half ", "minus ", "2 hours ",
    "2 hours and ", "5 ft 6 in ", "Jan ", "5 Jan ", "2020-", "12:", "1:2 ", "p.m. ", "A, ", "A. ", "(A) ", "(a)",
    "(a) ", "option ", "(", ")", "[", "]", "{", "}", "{}", "(1,", "[1,2],", "{1},", "|", "|x", "||", "<", ">", "=",
    "<=", "'", "\"", "`", "**", "*", "^", "^{", "_{", "/", ":", ";", "?", "#", "&", "@", "~", ".", "...", " ", "\n",
    "\t", "\\", "\\\\", "\\,", "\\ ", "\\(", "\\[", "\\{", "\\}", "\\{1\\},", "\\$", "\\%", "\\frac", "\\frac{",
    "\\frac12", "\\frac{1}{2}", "\\frac{1}{", "\\sqrt", "\\sqrt{", "\\text{", "\\text{ a}", "\\mathrm{", "\\pm ",
    "\\pm 1", "\\cdot ", "\\times 2", "\\le ", "\\infty ", "\\cup ", "(1,2)\\cup ", "\\in ", "\\alpha ", "\\angle ",
    "\\left(", "\\hspace{1cm}", "\\begin{pmatrix}", "\\begin{matrix}1&2\\\\\\end{matrix}", "1&2\\\\", "\\overline{",
    "0.\\overline{3}", "\\binom{1}{2}", "\\boxed{", "\\boxed{}", "\\boxed{1}", "\\boxed{1} or ", "\\boxed{1}, ",
    "\\boxed{1} wait ", "\\boxed ", "\\fbox{1}", "<think>", "</think>", "<judge>", "</judge>", "<|im_end|", "<|",
    "字", "一", "十", "亿", "百分之", "二分之一", "五个", "五个苹果", "和", "或", "，", "。", "（a）", "答案是", "不",
    "\u200b", "\ufeff", "é", "²", "½", "1½", "∞", "°", "π ", "−", "ﬁ", "𝟏", "١", "“", "a'", "'s ", "a-b-", "1-2-",
    "a.b", "\ud800", "\x00",
)
# fmt: on
BOXES = {"": "\\boxed{%s}", " then 1": "\\boxed{%s 1}", " after 1": "\\boxed{1 %s}", " in brackets": "\\boxed{(%s)}"}
ANSWERS = (
    Problem(answer="42 cm"),
    Problem(answer="x^2+1"),
    Problem(answer="1, 2, 3"),
    Problem(answer="yes"),
    Problem(answer="Paris"),
    Problem(answer="B", choices=("one", "two", "3 cm")),
    Problem(answer="3", task="count"),
    Problem(answer="stop", task="ocr"),
    Problem(answer="1, 2, 3, 4", task="box"),
)
_CACHES = (structure.read, units.parse_unit, latex.parse, gold._gold, gold._list_gold, gold._box_gold, _decide)


def cost_s(score: Callable[[], object]) -> float:
    """Processor time of one call with nothing remembered from an earlier one. Time and not steps, since most steps are
    taken inside regular expressions."""
    return processor_s(score, limit_s=LIMIT_S, prepare=forget)


def forget() -> None:
    for cache in _CACHES:
        cache.cache_clear()


@pytest.mark.parametrize("token", TOKENS)
def test_a_box_full_of_one_token_is_decided_at_once(token: str) -> None:
    boxed, repeated = BoxedAnswer(), token * (1900 // len(token))
    slow = {}
    for where, form in BOXES.items():
        for problem in ANSWERS:
            took = cost_s(lambda text=form % repeated, problem=problem: boxed.fast(text, problem))  # type: ignore[misc]
            if took >= LIMIT_S:
                slow[where, str(problem.answer)] = took
    assert not slow


@pytest.mark.parametrize("token", TOKENS)
def test_a_reference_full_of_one_token_is_read_at_once(token: str) -> None:
    problem = Problem(answer=token * (1900 // len(token)))
    assert cost_s(lambda: BoxedAnswer().fast("\\boxed{4}", problem)) < LIMIT_S


@pytest.mark.parametrize("token", TOKENS)
def test_a_megabyte_of_one_token_is_decided_at_once(token: str) -> None:
    repeated, four = token * (MEGABYTE // len(token)), Problem(answer="4")
    texts = {
        "in the box": f"\\boxed{{{repeated}}}",
        "alone": repeated,
        "before the box": repeated + "\\boxed{4}",
        "after the box": "\\boxed{4}" + repeated,
        "thought": f"<think>{repeated}</think>\\boxed{{4}}",
        "judged": f"<judge>{repeated}</judge><think>\n</think>\\boxed{{4}}",
    }
    rewards = {
        "boxed": BoxedAnswer().fast,
        "think_format": ThinkFormat().fast,
        "judge_form": ThinkFormat(judge_form=True).fast,
        "repetition": Repetition().fast,
        "split_response": split_response,
    }
    slow = {}
    for where, text in texts.items():
        for name, reward in rewards.items():
            took = cost_s(lambda reward=reward, text=text: reward(text, four))  # type: ignore[misc]
            if took >= LIMIT_S:
                slow[where, name] = took
    assert not slow


@pytest.mark.parametrize("token", ["\n1. ", "(a) ", "(b) \\boxed{2}\n", "Part (a) ", "**A** ", "x = \\boxed{1}, "])
def test_a_megabyte_before_an_answer_in_parts_is_searched_at_once(token: str) -> None:
    response, problem = (
        token * (MEGABYTE // len(token)) + "(a) \\boxed{1} (b) \\boxed{2}",
        Problem(answer="(a) 1 (b) 2"),
    )
    assert cost_s(lambda: BoxedAnswer().fast(response, problem)) < LIMIT_S
    plain = "so it goes on " * 40_000 + "(a) \\boxed{1} (b) \\boxed{2}"
    assert BoxedAnswer().fast(plain, problem) == Score(1.0, reason="parts")


def test_the_clock_of_these_tests_does_see_a_quadratic_scan() -> None:
    text = "1" * 120_000

    def quadratic() -> None:
        for at in range(len(text)):
            text.count("1", at)

    assert cost_s(quadratic) >= LIMIT_S


@pytest.mark.parametrize(
    "text",
    ["the answer is " * 130, "1, " * 600, "a and b, " * 200, "(x)" * 600, "cm " * 600, "x = 1, " * 250, "1 and " * 300],
)
def test_one_reading_goes_over_a_bounded_number_of_characters(text: str) -> None:
    structure.read.cache_clear()
    with contextlib.suppress(TooLarge):
        structure.read(text)
    assert len(text) <= cost._meter.work <= cost.MAX_WORK + cost.MAX_CHARS


def test_a_comparison_of_two_long_lists_goes_over_a_bounded_number_of_characters() -> None:
    forth = structure.read(", ".join(f"x^{n}+y^{n}+z^{n}" for n in range(10, 69)))  # 59 items of 14 characters
    back = structure.read(", ".join(f"z^{n}+y^{n}+x^{n}" for n in range(68, 9, -1)))
    with pytest.raises(TooLarge):  # 59 * 60 / 2 comparisons of 28 characters would be 50,000
        compare(forth, back)
    assert cost._meter.work <= cost.MAX_WORK + 2 * cost.MAX_CHARS


def test_a_long_list_in_another_order_is_still_the_same_list() -> None:
    numbers = [str(n * n + 17) for n in range(60)]
    problem = Problem(answer=", ".join(numbers))
    assert BoxedAnswer().fast(f"\\boxed{{{', '.join(numbers[::-1])}}}", problem) == Score(1.0, reason="list")
    other = [*numbers[1:], "18000"]
    assert BoxedAnswer().fast(f"\\boxed{{{', '.join(other)}}}", problem) == Score(0.0, reason="list")


def test_readings_inside_readings_end_at_a_fixed_depth_whatever_the_callers_stack() -> None:
    four = Problem(answer="4")
    nested = "\\boxed{" + "(1," * 40 + "2" + ")" * 40 + "}"
    factors = "\\boxed{" + "x" * 3 + " x" * 900 + "}"

    def deep(levels: int, response: str) -> Score | None:
        forget()
        return BoxedAnswer().fast(response, four) if not levels else deep(levels - 1, response)

    for response in (nested, factors):
        assert deep(300, response) == deep(0, response)


def test_a_long_text_that_is_the_reference_is_right_although_it_is_too_long_to_be_read_as_mathematics() -> None:
    poem = "the answer is blowing in the wind " * 100
    assert BoxedAnswer().fast(f"\\boxed{{{poem.upper()}}}", Problem(answer=poem)) == Score(1.0, reason="text")
    assert BoxedAnswer().fast(f"\\boxed{{{poem} no}}", Problem(answer=poem)) == Score(0.0, reason="too_large")
    longer = "a " * 15_000  # 30,000 characters; past 20,000 nothing is compared but the very same text
    assert BoxedAnswer().fast(f"\\boxed{{{longer.upper()}}}", Problem(answer=longer)) == Score(0.0, reason="too_large")


def test_the_last_box_of_a_very_long_response_is_its_answer() -> None:
    filler, four = "so it goes on and on " * 20_000, Problem(answer="4")  # 420,000 characters
    assert BoxedAnswer().fast(f"{filler}\\boxed{{4}}{filler}", four) == Score(1.0, reason="exact")
    assert BoxedAnswer().fast(f"\\boxed{{4}}{filler}\\boxed{{5}}", four) == Score(0.0, reason="number")
    form = f"<think>{filler}</think>{filler}\\boxed{{4}}{filler}"
    assert ThinkFormat()(form, four) == Score(1.0, reason="well_formed")


def test_boxes_that_are_together_too_long_are_a_spray() -> None:
    parts = [f"{n}{'+1' * 120}" for n in range(10)]  # ten different boxes of 241 characters
    assert BoxedAnswer().fast(" or ".join(f"\\boxed{{{part}}}" for part in parts), Problem(answer="4")) == Score(
        0.0, reason="multiple_conflicting"
    )
