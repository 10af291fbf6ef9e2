from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_filters.mcq import McqToFree, is_quantity_or_formula
from sailrl.errors import ConfigError
from tests.fakes.clock import processor_s


def convert(prompt, answer, choices=(), **more):
    return McqToFree().convert({"prompt": prompt, "answer": answer, "choices": list(choices), **more})


def reason(prompt, answer, choices=(), **more):
    return convert(prompt, answer, choices, **more).verdict.reason


@pytest.mark.parametrize(
    "prompt",
    [
        "What is 1 + 3?\nA. 3\nB. 4",
        "What is 1 + 3? A. 3  B. 4  C. 5",
        "What is 1 + 3? A.3 B.4 C.5 D.6",
        "What is 1 + 3?\n(A) 3\n(B) 4",
        "What is 1 + 3? [A] 3 [B] 4",
        "What is 1 + 3?\na) 3\nb) 4",
        "What is 1 + 3? (a) 3, (b) 4",
        "What is 1 + 3?\nA: 3\nB: 4",
        "What is 1 + 3?\nChoices:\n(A) 3\n(B) 4",
        "What is 1 + 3?\nOptions: A. 3, B. 4",
        "What is 1 + 3? Answer choices: A) 3 B) 4",
        "What is 1 + 3?\n**A.** 3\n**B.** 4",
        "What is 1 + 3? $\\textbf{(A)}\\ 3 \\qquad \\textbf{(B)}\\ 4 \\qquad \\textbf{(C)}\\ 5$",
        "What is 1 + 3?\nA. 3\nB. 4\nAnswer with the option's letter from the given choices directly.",
        "Please select the correct answer from the options below. What is 1 + 3?\nA. $3$\nB. $4$",
        "What is 1 + 3?\n\n$\\textbf{(A) } 3\\qquad\\textbf{(B) } 4\\qquad\\textbf{(C) } 5$",
        "What is 1 + 3?\nChoices:\nA:3\nB:4\nC:5\nD:6",
        "What is 1 + 3?\nA．3　　B．4　　C．5",
        "What is 1 + 3?\nA.3\tB.4",
        "What is 1 + 3? (A) $3 (B) $4 (C) $5",
        "What is 1 + 3? Please choose the correct answer: (A) 3 (B) 4",
        "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
        "What is 1 + 3?\nChoices:\n(A) 3\n(B) 4",
    ],
)
def test_every_layout_gives_the_bare_question_and_the_value(prompt):
    conversion = convert(prompt, "B")
    assert conversion.verdict.reason == "converted"
    assert (conversion.row["prompt"], conversion.row["answer"]) == ("What is 1 + 3?", "4")


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        ("若 x + 1 = 5，则 x 的值是（  ）\n选项：\nA、1\nB、4\nC、3", "若 x + 1 = 5，则 x 的值是（  ）"),
        ("若x=2，则2x的值是多少？A．1 B．4", "若x=2，则2x的值是多少？"),
        ("求x。请从以下选项中选出正确答案。\n（A）1\n（B）4", "求x。"),
    ],
)
def test_chinese_layouts(prompt, question):
    conversion = convert(prompt, "B")
    assert (conversion.row["prompt"], conversion.row["answer"]) == (question, "4")


def test_options_may_stand_in_their_own_field_only_or_in_both():
    assert convert("Find x.", "B", ["3 cm", "4 cm"]).row["answer"] == "4 cm"
    assert convert("Find x.", "4", ["3", "4"]).row["prompt"] == "Find x."
    assert convert("Find x. Choices: 3, 4", "4", ["3", "4"]).row["prompt"] == "Find x."
    assert convert("Find x.\nA. 3\nB. 4", "B", ["A. 3", "B. 4"]).row == {
        "prompt": "Find x.",
        "answer": "4",
        "meta": {"choice": {"options": ["3", "4"], "letter": "B"}},
    }
    assert reason("Find x.\nA. 3\nB. 5", "B", ["3", "4"]) == "options_not_found"  # the two disagree


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "B.", "B. 4", "(B) 4", "4", "$4$", 4])
def test_the_reference_may_be_a_letter_a_text_or_both(answer):
    assert convert("Find x.\nA. 3\nB. 4", answer).row["answer"] == "4"


def test_a_reference_that_fits_no_option_is_not_guessed():
    assert reason("Find x.", "7", ["3", "4"]) == "answer_unknown"
    assert reason("Find x.\nA. 3\nB. 4", "B. 3", task="choice") == "answer_unknown"  # letter and text disagree
    assert reason("Find x.\nA. 3\nB. 4", "E", task="choice") == "answer_unknown"
    assert reason("Find x.", ["A", "B"], ["3", "4"]) == "several_answers"


@pytest.mark.parametrize(
    "question",
    [
        "Which of the following is a solution of x + 1 = 5?",
        "Which statement is true?",
        "Which number is prime?",
        "In the figure, which value fits?",
        "The following could be the value of x:",
        "What could be the value of x?",
        "What is a possible value of x?",
        "The number cannot be",
        "All numbers satisfy it except",
        "The expression 2(x + 2) is equivalent to",
        "Choose among the options the value of x.",
        "AB = 3 and BC = 4. Choose the correct option for the area.",
        "Determine which number is prime.",
        "What is a factor of 12?",
        "Give a prime number.",
        "Select the largest number.",
        "What is the smallest of these?",
        "One of the roots of x^2 - 7x + 12 = 0 is",
        "The number 12 is divisible by",
        "x is less than ( )",
        "最大的是（ ）",
        "方程的一个根是（ ）",
        "下列说法正确的是（ ）",
        "x的值可能是（ ）",
    ],
)
def test_questions_that_need_their_options_stay_choice(question):
    row = {"prompt": f"{question}\nA. 3\nB. 4", "answer": "B"}
    conversion = McqToFree().convert(row)
    assert conversion.verdict.reason == "needs_options"
    assert conversion.row is row


@pytest.mark.parametrize(
    "question",
    [
        "A train which is 200 m long passes a pole. How long does it take in seconds?",
        "What is the greatest possible value of x?",
        "Find the number of possible values of x.",
        "Consider the following equation: x + 1 = 5. What is x?",
        "Round 3.97 to the nearest whole number.",
        "How many teams of 2 can be formed from 4 people?",
        "Choose a card from one of the two decks. What is the chance of an ace?",
        "In how many ways can one select 2 letters from ABCD?",
        "从5个人中选择2人，有多少种方法？",
        "The value of x is",
        "The sum of 1 and 3 is equal to",
        "What is the difference between 7 and 3?",
        "Find a if a + 1 = 5.",
        "What is an angle of the regular hexagon divided by 30?",
        "As shown in the figure, angle A of triangle ABC is ( )°",
    ],
)
def test_questions_that_stand_alone_are_converted_whole(question):
    conversion = convert(f"{question}\nA. 3\nB. 4", "B")
    assert (conversion.verdict.reason, conversion.row["prompt"]) == ("converted", question)


@pytest.mark.parametrize("question", ["The length is closest to", "Approximately how long is it?", "x最接近（ ）"])
def test_questions_whose_precision_lies_in_the_options_stay_choice(question):
    assert reason(f"{question}\nA. 3\nB. 4", "B") == "approximate"


@pytest.mark.parametrize(
    "last", ["All of the above", "None of these", "none", "A and B", "以上都不对", "Neither of these"]
)
def test_options_that_speak_of_options_stay_choice(last):
    assert reason(f"Find x.\nA. 3\nB. 4\nC. {last}", "B") == "options_refer"


def test_text_answers_pictures_and_twins_stay_choice():
    assert reason("What is the capital of France?\nA. Paris\nB. Rome", "A") == "text_answer"
    assert reason("What comes next?\nA. <image>\nB. <image>", "A") == "options_are_images"
    assert reason("What comes next?\nA. Figure A\nB. Figure B", "A") == "options_are_images"
    assert reason("What comes next?", "A", ["1", "2"], images=["a.png", "b.png"]) == "options_are_images"
    assert reason("Find x.\nA. 3\nB. 3\nC. 4", "A") == "ambiguous"
    assert reason("A. 3\nB. 4", "A") == "empty_question"
    # negative control: the same shapes with one picture of the problem and different numbers convert
    assert reason("What comes next?", "A", ["1", "2"], images=["a.png"]) == "converted"


def test_rows_that_are_no_choice_are_left_alone():
    for prompt, answer in (("Find x.", "4"), ("(a) Find x. (b) Find y.", "4"), ("f(a) = 3, (b) why?", "because")):
        row = {"prompt": prompt, "answer": answer}
        conversion = McqToFree(otherwise="drop").convert(row)
        assert (conversion.row, conversion.verdict.keep, conversion.verdict.reason) == (row, True, "not_choice")


def test_the_rest_is_kept_or_dropped_as_configured():
    row = {"prompt": "Which is it?\nA. 3\nB. 4", "answer": "B"}
    assert McqToFree()(row).keep
    dropped = McqToFree(otherwise="drop").convert(row)
    assert (dropped.row, dropped.verdict.keep, dropped.verdict.reason) == (None, False, "needs_options")
    with pytest.raises(ConfigError):
        McqToFree(otherwise="maybe")  # type: ignore[arg-type]


def test_text_after_the_options_belongs_to_the_question():
    assert convert("Find x.\nA. 3\nB. 4\nUse g = 10.", "B").row["prompt"] == "Find x. Use g = 10."


def test_chat_prompts_keep_their_images_and_turns():
    image = {"type": "image"}
    prompt: list[dict[str, Any]] = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [image, {"type": "text", "text": "Find x.\nA. 3\nB. 4"}]},
    ]
    row = convert(prompt, "B", images=["a.png"], task="choice", meta={"split": "train"}).row
    assert row["prompt"] == [prompt[0], {"role": "user", "content": [image, {"type": "text", "text": "Find x."}]}]
    assert (row["task"], row["images"], row["meta"]["split"]) == ("math", ["a.png"], "train")
    assert prompt[1]["content"][1]["text"].endswith("B. 4")  # the input is left as it was


@pytest.mark.parametrize(
    "text",
    [
        "4",
        "-3.5",
        "1,234",
        "28%",
        "$5",
        "3 cm",
        "12 cm^2",
        "1/2",
        "1 1/2",
        "2:3",
        "1.6e-19",
        "1.6 \\times 10^{-19}",
        "90°",
        "\\frac{1}{2}",
        "2\\sqrt{3}",
        "2\\pi",
        "y = 2x + 1",
        "x^2 - 1",
        "(2, 3)",
        "3 < x < 5",
        "\\sin x + 1",
        "5个",
        "30 km/h",
    ],
)
def test_numbers_and_formulas_are_recognised(text):
    assert is_quantity_or_formula(text)


@pytest.mark.parametrize(
    "text", ["Paris", "x", "AB", "yes", "3 and 4", "I and II", "\\text{no}", "the red one", "", "三", "-"]
)
def test_other_answers_are_not(text):
    assert not is_quantity_or_formula(text)


@given(st.lists(st.integers(-999, 999), min_size=2, max_size=8, unique=True), st.data())
def test_the_converted_answer_is_the_option_of_the_letter(values, data):
    place = data.draw(st.integers(0, len(values) - 1))
    mark = data.draw(st.sampled_from(["{}. ", "({}) ", "{}) ", "{}: ", "[{}] "]))
    between = data.draw(st.sampled_from(["\n", "  ", " ", ",\n"]))
    options = between.join(mark.format("ABCDEFGH"[i]) + str(value) for i, value in enumerate(values))
    conversion = convert(f"Find the sum.{data.draw(st.sampled_from(['', ' Options:']))}\n{options}", "ABCDEFGH"[place])
    assert (conversion.row["prompt"], conversion.row["answer"]) == ("Find the sum.", str(values[place]))


def test_long_hostile_texts_take_no_time():
    for piece in (
        "(A) ",
        "a. ",
        "answer the ",
        "choose the correct option ",
        "Options: ",
        " ",
        "\n",
        "1,",
        "以下",
        "which of ",
    ):
        long = piece * 4000

        def all_of_it(long: str = long) -> None:
            for choices in ((), ("1", "2")):
                convert(long + "x", "A", choices)
            is_quantity_or_formula(long)

        assert processor_s(all_of_it, limit_s=1.0) < 1.0  # milliseconds; quadratic scans take minutes at this length


@given(st.text(max_size=300))
def test_no_text_makes_it_fail(text):
    assert McqToFree()({"prompt": text, "answer": text[:2]}).reason
