"""Multiple choice to free response, by rule: where the answer is a number or a formula and the question stands alone.

Source: SAIL-VL2 (arXiv 2509.14033) section 4.2.3, filter 1: "multiple-choice questions with numerical or symbolic
answers" are converted so that a guess among four letters earns nothing; what happens to the others is not published,
so it is a setting. The paper uses an LLM; rules come first here because they cost nothing and never change an answer,
and :mod:`data_filters.mcq_rewrite` offers the LLM for the rest. In doubt a question stays multiple choice: a
converted question with two right answers would punish a right model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from data_filters.mcq_options import Options, clean_option, split_options
from data_filters.reading import Conversion, Row, normalise
from sailrl.errors import ConfigError
from sailrl.types import Verdict, content_texts


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE)


NEEDS_OPTIONS = _any(
    # asks to choose
    r"\bwhich (?:of|one)\b|(?:^|[.?!:,]\s*)which\b(?! (?:year|page|floor|row|column|term)\b)",
    r"\b(?:determine|identify|decide|find|find out|tell|state|indicate) which\b",
    r"(?:^|[.?!]\s*)(?:select|pick|choose) the\b",
    r"\b(?:of|among) (?:these|those|them|the following)\b|\b(?:options?|choices?|alternatives?|listed|given answers)\b",
    r"\bthe following (?:options|choices|answers|statements|values|alternatives|numbers)\b",
    r"\bfollowing (?:is|are|was|were|can|could|may|must|would|will|does|do|has|have|shows?|represents?)\b",
    # has several answers
    r"\b(?:could|may|might)(?: not)? (?:be|equal|represent)\b|\bcan ?not (?:be|equal)\b|\bcan be (?:the|an?|equal)\b",
    r"(?<!est )(?<!mum )(?<!of )(?<!all )(?<!one )possible (?:value|answer|solution)|\bone possible\b|\bexcept\b",
    r"\ban? (?:\w+ )?(?:factor|multiple|divisor|solution|root|example|prime|member) (?:of|to|number|for)\b",
    r"\b(?:find|give|name|write|what is) an? (?:\w+ )?(?:number|value|integer|prime|fraction|expression)\b",
    r"(?:^|[.?!]\s*)one of the\b|\bequivalent\b",
    r"\b(?:is|are) (?:not |always |never )*(?:true|false|correct|incorrect)\b",
    r"\b(?:than|divisible by|between|multiple of|factor of|belongs? to|lies? (?:in|on))[\s:?_.()（）]*\Z",
    r"下列|以下|下面|如下|哪|选项|可能|可以是|不是|正确的|错误的|不正确|成立的|符合|等价|的一个|的是\s*[（(_]",
)
"""Wording that asks to compare options, or that several values would answer."""
APPROXIMATE = _any(
    r"\bclosest\b|\bnearest to\b|\bmost nearly\b|\bapproximat\w*|\broughly\b|\bestimate\w*\b",
    r"\bbest (?:describes|represents)\b|\babout how\b|最接近|大约|约为|约等于|估计|左右",
)
"""Wording where only the options say how exact an answer must be."""
REFERS = _any(
    r"\b(?:all|none|any|both|neither|either|some)\b.{0,12}\b(?:above|these|those|following|others?|them|options)\b",
    r"^(?:none|neither|both|all)$|\bnone of\b|\bnot (?:listed|given|here)\b",
    r"^(?:option |choice )?\(?[A-Ja-j]\)? (?:and|or|&) ",
    r"以上|都不|都是|均不|均是|都对|都错|其他",
)
"""An option that speaks of the other options."""
PICTURE = re.compile(
    r"(?:<image>|\[image\]|!\[[^\]]*\]\([^)]*\)|(?:image|figure|picture|graph|diagram|图)\s*\w{0,2})?", re.IGNORECASE
)

_NUMBER = r"[-+−]?\s*[$£€¥￥]?\s*(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:\s*[eE×x*]\s*(?:10\s*\^?\s*)?\{?[-−+]?\d+\}?)?"
_UNIT = r"(?:\s*(?:%|°|℃|[a-zA-Zµμ°Ω·²³/^{}\\]{1,14}(?:\s?[a-zA-Z²³/^]{1,10})?[23]?|[一-鿿]{1,3}))?"
_QUANTITY = re.compile(rf"(?=.*\d){_NUMBER}(?:\s*[/:：]\s*\d+|\s+\d+\s*/\s*\d+)?{_UNIT}")
_COMMAND = re.compile(
    r"\\(?!text|mathrm|mbox)[a-zA-Z]+|\b(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|arcsin|arccos|arctan)\b"
)
_FORMULA_SIGN = re.compile(r"[0-9+*/=^<>≤≥√π∞×÷-]|\\(?:d?frac|sqrt|pi|infty)")
_LETTER = re.compile(r"\(?\s*([A-Ja-j])\s*\)?\s*[.:：、)]?")
_LETTER_AND_TEXT = re.compile(r"\(?\s*([A-Ja-j])\s*[.:：、)]\)?\s*(\S.*)", re.DOTALL)


def is_quantity_or_formula(text: str) -> bool:
    """Whether an answer is a number (with a unit perhaps) or a formula: something a rule can check without options."""
    text = text.replace("$", "").strip()
    if _QUANTITY.fullmatch(text):
        return True
    words = re.findall(r"[^\W\d_]{2,}", _COMMAND.sub(" ", text))
    return not words and bool(_FORMULA_SIGN.search(text)) and len(text) > 1


@dataclass(frozen=True)
class McqToFree:
    """Converts what it can; ``otherwise`` says what happens to multiple choice that must stay so.

    Reasons: ``converted``; ``not_choice`` (left as it is); and for choice that cannot be converted:
    ``options_not_found``, ``several_answers``, ``answer_unknown`` (no option is the reference answer), ``ambiguous``
    (two options are the same), ``options_are_images``, ``text_answer``, ``options_refer`` (all of the above),
    ``needs_options`` (which of the following), ``approximate`` (closest to), ``empty_question``.

    A converted row has the option's text as ``answer``, no ``choices``, task ``choice`` changed to ``math``, and its
    former options and letter under ``meta["choice"]``.
    """

    otherwise: Literal["keep", "drop"] = "keep"

    def __post_init__(self) -> None:
        if self.otherwise not in ("keep", "drop"):
            raise ConfigError(f"mcq: otherwise = {self.otherwise!r} must be 'keep' or 'drop'.")

    def __call__(self, row: Row) -> Verdict:
        return self.convert(row).verdict

    def convert(self, row: Row) -> Conversion:
        """Converts one problem row."""
        options = split_options(question_text(row), row.get("choices") or ())
        letter = answer_letter(options, row.get("answer")) if options else None
        declared = bool(row.get("choices")) or row.get("task") == "choice"
        if not declared and letter is None:
            return Conversion(row, Verdict(True, "not_choice"))
        reason = self._obstacle(row, options, letter)
        if options is None or letter is None or reason is not None:
            keep = self.otherwise == "keep"
            return Conversion(row if keep else None, Verdict(keep, reason or "options_not_found", {"letter": letter}))
        answer = options.texts[options.letters.index(letter)]
        return Conversion(
            free_response(row, options, letter), Verdict(True, "converted", {"letter": letter, "answer": answer})
        )

    def _obstacle(self, row: Row, options: Options | None, letter: str | None) -> str | None:
        if options is None:
            return "options_not_found"
        if isinstance(row.get("answer"), (list, tuple)):
            return "several_answers"
        if letter is None:
            return "answer_unknown"
        answer = options.texts[options.letters.index(letter)]
        if all(PICTURE.fullmatch(text) for text in options.texts) or len(row.get("images") or ()) == len(options.texts):
            return "options_are_images"
        if [normalise(text) for text in options.texts].count(normalise(answer)) > 1:
            return "ambiguous"
        if not is_quantity_or_formula(answer):
            return "text_answer"
        if any(REFERS.search(text) for text in options.texts):
            return "options_refer"
        return stands_alone(options.question)


def stands_alone(question: str) -> str | None:
    """Why a question does not stand without its options; None when it does."""
    if not question.strip():
        return "empty_question"
    if NEEDS_OPTIONS.search(question):
        return "needs_options"
    return "approximate" if APPROXIMATE.search(question) else None


def answer_letter(options: Options, answer: Any) -> str | None:
    """The letter of the reference answer, given as a letter, as an option's text, or as both; None when it fits
    none."""
    if not isinstance(answer, (str, int, float)) or isinstance(answer, bool):
        return None
    text = str(answer).strip()
    letters = options.letters
    bare = _LETTER.fullmatch(text)
    if bare and bare[1].upper() in letters:
        return bare[1].upper()
    both = _LETTER_AND_TEXT.fullmatch(text)
    if both and both[1].upper() in letters:
        claimed = options.texts[letters.index(both[1].upper())]
        return both[1].upper() if normalise(clean_option(both[2])) == normalise(claimed) else None
    same = [
        letter
        for letter, option in zip(letters, options.texts, strict=True)
        if normalise(option) == normalise(clean_option(text))
    ]
    return same[0] if same else None


def question_text(row: Row) -> str:
    """The text that holds the question and perhaps its options: the prompt, or the last text of its last user turn."""
    prompt = row.get("prompt") or ""
    if isinstance(prompt, str):
        return prompt
    content = next((message.get("content") for message in reversed(prompt) if message.get("role") == "user"), "")
    return next(reversed(content_texts(content)), "")


def free_response(row: Row, options: Options, letter: str, question: str | None = None) -> dict[str, Any]:
    """The row as a free-response problem, with ``question`` (default: the one found beside the options) as its text."""
    meta = {**(row.get("meta") or {}), "choice": {"options": list(options.texts), "letter": letter}}
    converted = {name: value for name, value in row.items() if name != "choices"}
    converted["prompt"] = _with_text(row.get("prompt") or "", question_text(row), question or options.question)
    converted["answer"] = options.texts[options.letters.index(letter)]
    converted["meta"] = meta
    if row.get("task") == "choice":
        converted["task"] = "math"
    return converted


def _with_text(prompt: Any, old: str, new: str) -> Any:
    """The prompt with its question replaced; everything else in a chat stays."""
    if isinstance(prompt, str):
        return new
    messages: list[Mapping[str, Any]] = list(prompt)
    last = max(i for i, message in enumerate(messages) if message.get("role") == "user")
    content = messages[last]["content"]
    if isinstance(content, str):
        replaced: Any = new
    else:
        place = max(i for i, part in enumerate(content) if part.get("text") == old)
        replaced = [{**part, "text": new} if i == place else part for i, part in enumerate(content)]
    return [*messages[:last], {**messages[last], "content": replaced}, *messages[last + 1 :]]
