"""The fixed words that each reward gives as its reason: the values or the status that come with each, and its meaning.

A test compares the table with the words in the source and with the reasons of the labelled rows.
"""

from __future__ import annotations

from typing import TypeAlias

Reasons: TypeAlias = dict[str, tuple[str, str]]

_NOT_TEXT = {"response_not_text": ("unscorable", "The response is not text.")}
_JUDGED: Reasons = {
    "breaker_open": ("failed", "Too many calls in a row failed, so none is made for `breaker_cooldown_s` seconds."),
    "no_api_key": ("failed", "The environment variable that `api_key_env` names holds no key now."),
    "unreachable": ("failed", "The endpoint cannot be reached."),
    "timeout": ("timed_out", "The endpoint did not answer in time."),
    "cut_off": ("failed", "The connection broke."),
    "rate_limited": ("failed", "The endpoint refused with 429 until the deadline."),
    "http_<code>": ("failed", "The endpoint answered with this HTTP status."),
    "not_a_reply": ("failed", "The endpoint's answer is not one of a chat API."),
    "unreadable": ("failed", "The judge's text was no verdict twice."),
    "image_missing": ("unscorable", "An image file of the row is not there."),
    "image_unreadable": ("unscorable", "An image of the row cannot be read."),
    "image_too_large": ("unscorable", "An image of the row does not get below `max_image_bytes`."),
    "video_not_shown": ("unscorable", "The row has videos, which a judge does not see."),
    **_NOT_TEXT,
}
_BOXED: Reasons = {
    "exact": ("1", "The box holds the reference answer, character for character."),
    "normalised": ("1", "The two are equal once LaTeX, spaces and spelling are in one form."),
    "choice": ("1 or 0", "Compared as multiple choice: by letter, or by the text of the option."),
    "yes_no": ("1 or 0", "Compared as yes or no."),
    "text": ("1 or 0", "Compared as text, without case, spaces and punctuation."),
    "literal": ("1 or 0", "Compared as a date, a time, a phone number or a code."),
    "ratio": ("1 or 0", "Compared as ratios (`2:3`) in lowest terms."),
    "range": ("1 or 0", "Compared as ranges of numbers (`3-5`)."),
    "piecewise": ("1 or 0", "Compared piece by piece, as functions with cases."),
    "formula": ("1 or 0", "Compared as formulas of logic."),
    "condition": ("0", "The two hold under conditions that exclude each other."),
    "parts": ("1 or 0", "Compared part by part, by their labels (`(a) 3, (b) 5`)."),
    "label": ("0", "The two name different unknowns (`x = 3` and `y = 3`)."),
    "number": ("1 or 0", "Compared by value, to `precision` decimals where the row gives them."),
    "percent": ("1 or 0", "Compared by value; at least one of the two is a percentage."),
    "unit": ("1 or 0", "Compared by value and unit; units of one quantity are converted."),
    "expression": ("1 or 0", "Compared by the values of both expressions at fixed points."),
    "equation": ("1 or 0", "Compared as equations."),
    "interval": ("1 or 0", "Compared as intervals; open and closed ends differ."),
    "bracket": ("1 or 0", "Compared as values in brackets that may be a list or an interval."),
    "list": ("1 or 0", "Compared as a list; the order does not count."),
    "set": ("1 or 0", "Compared as a set; the order does not count."),
    "tuple": ("1 or 0", "Compared as a tuple; the order counts."),
    "matrix": ("1 or 0", "Compared element by element."),
    "kind": ("0", "The two are of different kinds, for example a number and an interval."),
    "iou": ("1 or 0", "Task `box`: compared by the overlap of the boxes."),
    "symbolic": ("1 or 0", "Compared by math-verify and sympy."),
    "no_box": ("0", "There is no `\\boxed{}` where the answer belongs."),
    "empty": ("0", "The last box is empty."),
    "unclosed": ("0", "The last box never closes."),
    "unclosed_think": ("0", "A `<think>` never closes, so there is no answer."),
    "multiple_conflicting": ("0", "The response offers several answers, and not all of them are right."),
    "unread": ("0", "The answer holds a symbol that is no known mathematics."),
    "too_large": ("0", "The answer is too long or too deeply nested to be read."),
    "gold_missing": ("unscorable", "The row has no reference answer."),
    "gold_unusable": ("unscorable", "No rule can compare with this reference answer."),
    "gold_not_a_choice": ("unscorable", "The reference answer is none of the row's `choices`."),
    "symbolic_deadline": ("timed_out", "sympy did not finish within `deadline_s`."),
    "symbolic_worker_died": ("failed", "The process that runs sympy died twice."),
    **_NOT_TEXT,
}
_JUDGE: Reasons = {
    "correct": ("1", "The judge finds the answer right."),
    "incorrect": ("0", "The judge finds the answer wrong."),
    "no_answer": ("0", "The response has no answer after its thinking; no call is made."),
    "nothing_to_judge_by": ("unscorable", "The row has neither a reference answer nor a prompt."),
}
REASONS: dict[str, Reasons] = {
    "boxed": _BOXED,
    "think_format": {
        "well_formed": ("1", "The form is right."),
        "no_think": ("0", "`<think>` or `</think>` is missing."),
        "several_thinks": ("0", "A tag is there more than once."),
        "close_before_open": ("0", "`</think>` stands before `<think>`."),
        "text_before_think": ("0", "There is text before `<think>`."),
        "blank_thinking": ("0", "There is nothing between the tags."),
        "no_box": ("0", "There is no filled `\\boxed{}` after `</think>`."),
        "judge_tags": ("0", "With `judge_form`: not exactly one `<judge>...</judge>`."),
        "text_before_judge": ("0", "With `judge_form`: there is text before `<judge>`."),
        "blank_judgment": ("0", "With `judge_form`: there is nothing between `<judge>` and `</judge>`."),
        **_NOT_TEXT,
    },
    "overlong": {
        "within": ("0", "The response ends before the buffer."),
        "in_buffer": ("between 0 and -1", "The response ends in the buffer."),
        "too_long": ("-1", "The response is longer than `max_response_tokens`."),
        "no_token_count": ("unscorable", "The row has no `response_tokens` (in a file to score)."),
    },
    "repetition": {
        "no_repetition": ("0", "No n-gram comes twice."),
        "repetition": ("between 0 and -1", "Minus the share of n-grams that came before."),
        "too_short": ("0", "The response has fewer than `n` words."),
        **_NOT_TEXT,
    },
    "judge": _JUDGE,
    "thinking": {
        "sound": ("1", "All three judgments are positive."),
        "illogical": ("minus 1/3", "The reasoning is not coherent."),
        "hallucination": ("minus 1/3", "The reasoning claims something that image, question or world contradict."),
        "inconsistent": (
            "minus 1/3",
            "The answer does not follow from the reasoning. Several flaws are joined by `+`.",
        ),
        "no_thinking": ("`empty_value`", "The response did not think."),
        "thinking_missing": ("0", "The response did not think, and `meta.requires_reasoning` says that it should."),
        "unclosed_think": ("0", "A `<think>` never closes; no call is made."),
    },
    "judging": {
        "rightly_think": ("1", "It thought, and that was right."),
        "rightly_direct": ("1", "It answered directly, and that was right."),
        "wrongly_think": ("0", "It thought, and that was not needed."),
        "wrongly_direct": ("0", "It answered directly, and should have thought."),
        "label_not_boolean": ("unscorable", "`meta.requires_reasoning` is neither true nor false."),
    },
    "answer": {},
    "judges": _JUDGED,
    "weighted": {
        "weighted": ("the sum", "All parts with a weight are scored."),
        "<part>:<reason>": ("the part's status", "The first part that is not scored."),
    },
    "cascade": {
        "cascade": ("the product", "All parts of the formula are scored."),
        "<part>:<reason>": ("the part's status", "The first part that is not scored."),
    },
    "any reward": {
        "deadline": ("timed_out", "The response took longer than `rewards.deadline_s`; the worker was replaced."),
        "out_of_memory": ("failed", "The worker needed too much memory on this response."),
        "worker_died": (
            "failed",
            "The worker died on this response twice; `worker_died:<signal>` where a signal killed it.",
        ),
        "worker_cannot_start": ("failed", "The worker does not start."),
        "raised:<type>": ("failed", "The reward raised an exception of this type."),
        "not_a_score:<type>": ("failed", "The reward returned something else than `Score`."),
        "problem_not_json": ("unscorable", "The row cannot be sent to a worker."),
        "missing_response": ("unscorable", "In a file to score: the row has no `response`."),
        "bad_field:<field>": ("unscorable", "In a file to score: this field of the row breaks a rule."),
        "too_deep": ("unscorable", "In a file to score: the row is nested too deeply."),
        "not_json": ("unscorable", "In a file to score: the line is not JSON."),
        "not_an_object": ("unscorable", "In a file to score: the line is JSON, but not an object."),
    },
}
