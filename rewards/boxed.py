"""The answer reward: 1 when the final ``\\boxed{}`` of a response says what the reference answer says, else 0.

The rule is what a careful human says. Decision order, cheapest first, each step recorded as the reason:

1. the box itself (``no_box``, ``unclosed``, ``empty``, ``unclosed_think``, ``multiple_conflicting``);
2. ``exact``, then the rule of the task: ``choice``, ``yes_no``, ``text`` (OCR), ``iou``;
3. ``normalised`` text, ``number``, ``percent``, ``unit``, ``list``, ``set``, ``tuple``, ``interval`` (sets of real
   numbers, however they are described), ``range``, ``ratio``, ``matrix``, ``parts``, ``formula``, ``piecewise``,
   ``expression`` (values at many points, far and near), ``equation``, ``label``, ``condition``, ``literal`` (dates,
   times, codes), ``text``;
4. ``symbolic``: math-verify and sympy in a killable process, for what nothing above could compute. What holds a symbol
   that is no known mathematics is ``unread``, and wrong: no number is picked out of it.

A wrong value with a rule's name was found different by that rule. The model's faults score 0, also an answer that is
``too_large`` or ``too_slow`` to decide; a reference answer that no rule can use, or that is too slow itself, is
``unscorable``.
"""

from __future__ import annotations

import importlib
import re
import threading
from functools import lru_cache

from rewards.answers import latex
from rewards.answers.box_iou import read_boxes, same_boxes
from rewards.answers.choice import answered
from rewards.answers.compare import Equality, compare
from rewards.answers.cost import MAX_CHARS, MAX_DEPTH, MAX_TEXT, affordable, depth
from rewards.answers.extract import extract, extract_parts
from rewards.answers.gold import KNOWN_TASKS, Gold, UnusableGold, gold_of
from rewards.answers.normalize import clean, text_key
from rewards.answers.phrases import verdict
from rewards.answers.structure import read
from rewards.answers.tokens import known
from rewards.answers.units import parse_unit
from sailrl import killable
from sailrl.types import Problem, Score

_MAX_OFFERS = 50
"""Most different boxes in one answer. With more, or with more than ``MAX_CHARS`` characters in them, it is wrong."""
_SYMBOLIC = "rewards.answers.symbolic:equal"
_PLAIN = r"\sqrt{2}"
"""An answer that costs sympy nothing and is no whole number, so that the other side must be computed."""
_shared: killable.Killable | None = None
_shared_lock = threading.Lock()


class BoxedAnswer:
    """Scores the final boxed answer.

    Args:
        iou_threshold: overlap from which a bounding box is right (task ``box``).
        deadline_s: time the symbolic step may take per pair of answers.
    """

    tasks = KNOWN_TASKS
    """Kinds of answers that a row may name; any other is compared by what its reference answer looks like."""

    def __init__(self, *, iou_threshold: float = 0.5, deadline_s: float = 1.0) -> None:
        if not 0 < iou_threshold <= 1:
            raise ValueError(f"iou_threshold must lie in (0, 1], got {iou_threshold!r}")
        self._iou = iou_threshold
        self._deadline_s = deadline_s
        if killable.inside():
            importlib.import_module(
                "rewards.answers.symbolic"
            )  # now, so that the import does not count against a row's deadline

    def __call__(self, response: str, problem: Problem) -> Score:
        pending = self._score(response, problem)
        return pending if isinstance(pending, Score) else _symbolic(*pending, self._deadline_s)

    def fast(self, response: str, problem: Problem) -> Score | None:
        """Everything before the symbolic step; None when only that can decide."""
        pending = self._score(response, problem)
        return pending if isinstance(pending, Score) else None

    def dry_run(self, problem: Problem) -> None:
        """The symbolic step on a plain answer: what it takes here, the reference answer takes."""
        _asked(gold_of(problem.answer, problem.task, problem.choices).text, _PLAIN)

    def explain(self, response: str, problem: Problem) -> list[str]:
        """The decision path in words, one step per line."""
        lines = []
        try:
            gold = gold_of(problem.answer, problem.task, problem.choices)
            kind = f" read as {gold.parsed.kind}" if gold.parsed is not None else ""
            lines.append(f"reference: {gold.text[:200]!r}{kind}, compared as {gold.mode}")
        except UnusableGold as fault:
            lines.append(f"reference: {fault}")
        if isinstance(response, str):
            found = extract(response, problem.response_prefix)
            lines.append(f"extraction: {found.status}, boxes {[b[:200] for b in found.boxes]}")
            if found.rivals:
                lines.append(f"other answers: {[b[:200] for b in found.rivals]}")
            lines += [f"answer {box[:200]!r} read as {_kind(box)}" for box in found.boxes]
        score = self.fast(response, problem)
        if score is None:
            lines.append("no cheap rule decides: math-verify and sympy are asked")
            score = self(response, problem)
        lines.append(f"{score.status}: {score.value} by {score.reason}")
        return lines

    def _score(self, response: str, problem: Problem) -> Score | tuple[str, str]:
        """The score, or the two texts that the symbolic step must compare."""
        if not isinstance(response, str):
            return _UNREADABLE
        try:
            gold = gold_of(problem.answer, problem.task, problem.choices)
        except UnusableGold as fault:
            return Score(None, "unscorable", str(fault))
        prefix = problem.response_prefix if isinstance(problem.response_prefix, str) else ""
        found = extract(response, prefix)
        if found.status != "ok":
            return _said(False, found.status)
        boxes = found.boxes
        precision = _places(problem.precision)
        in_parts = gold.parsed is not None and gold.parsed.kind == "parts"
        if in_parts and (content := extract_parts(response, prefix)) is not None:
            return _said(self._compare(gold, content, precision).equal is True, "parts")
        if found.rivals or (len(boxes) > 1 and not gold.several and not found.labelled):
            # Several answers: right only when every one of them is.
            offered = list(dict.fromkeys((*found.rivals, *boxes)))
            if len(offered) > _MAX_OFFERS or sum(map(len, offered)) > MAX_CHARS:
                return _said(False, "multiple_conflicting")
            if all(self._compare(gold, box, precision).equal for box in offered):
                return _said(True, self._compare(gold, boxes[-1], precision).rule)
            if gold.several and self._compare(gold, ", ".join(offered), precision).equal:
                return _said(True, "list")
            return _said(False, "multiple_conflicting")
        content = ", ".join(boxes) if len(boxes) > 1 and gold.several else boxes[-1]
        outcome = self._compare(gold, content, precision)
        if outcome.equal is None:
            if not affordable(gold.text):
                return Score(None, "unscorable", "gold_too_large")
            if not affordable(content):
                return _said(False, "too_large")
            if not (known(clean(content)) and known(clean(gold.text))):
                return _said(False, "unread")
            return gold.text, content
        return _said(outcome.equal, outcome.rule)

    def _compare(self, gold: Gold, content: str, precision: int | None) -> Equality:
        if content == gold.text:
            return Equality(True, "exact")
        return _decide(gold, content, precision, self._iou)


@lru_cache(maxsize=1024)
def _said(equal: bool, rule: str) -> Score:
    return Score(1.0 if equal else 0.0, "scored", rule)


_UNREADABLE = Score(None, "unscorable", "response_not_text")


@lru_cache(maxsize=16384)
def _decide(gold: Gold, content: str, precision: int | None, iou: float) -> Equality:
    """The cheap rules on one extracted answer; remembered, since a group of responses repeats its answers."""
    if len(content) > MAX_TEXT:
        return Equality(False, "too_large")
    if gold.mode == "box":
        boxes = read_boxes(content)
        return Equality(bool(boxes) and same_boxes(list(gold.boxes), boxes or [], iou), "iou")
    if gold.mode == "ocr":
        return Equality(text_key(content) in gold.texts, "text")
    try:
        if len(content) > MAX_CHARS or depth(content) > MAX_DEPTH:
            raise latex.TooLarge
        if gold.choice is not None:
            return Equality(answered(content, gold.choice), "choice")
        return _by_meaning(gold, content, precision)
    except latex.TooLarge:
        return Equality(True, "text") if text_key(content) == text_key(gold.text) else Equality(False, "too_large")


def _by_meaning(gold: Gold, content: str, precision: int | None) -> Equality:
    assert gold.parsed is not None  # only boxes, texts and options have none
    answer = read(content)
    outcome = compare(gold.parsed, answer, precision)
    if outcome.equal is True:
        return outcome
    if gold.mode == "yes_no":
        return Equality(verdict(content) == gold.parsed.ends, "yes_no")
    if gold.mode == "count" and answer.kind == "text" and _says_none(content):
        return compare(gold.parsed, read("0"), precision)
    return outcome


def _says_none(content: str) -> bool:
    """``none``, ``There are no cats``; not "no more than 5"."""
    none = _NONE.match(text_key(content))
    return none is not None and (none.end() == len(none.string) or parse_unit(none.string[none.end() :]) is not None)


_NONE = re.compile(r"(?:there (?:is|are) |i (?:can )?see )?(?:none|nothing|no|没有|无)(?![a-z])\s*")


def _kind(content: str) -> str:
    try:
        return read(content).kind
    except latex.TooLarge:
        return "too large"


def _places(precision: object) -> int | None:
    """``precision`` as a whole number of decimals; data sets also write 2.0."""
    if isinstance(precision, bool) or not isinstance(precision, int | float) or not 0 <= precision <= 300:
        return None
    return int(precision)


def _symbolic(gold: str, answer: str, deadline_s: float) -> Score:
    """Asks sympy, in a process that can be killed; once more where the first was not given the processor, or died."""
    if killable.inside():
        return _said(_asked(gold, answer) == "equal", "symbolic")
    for _ in range(2):
        try:
            return _said(_worker().call(gold, answer, deadline_s=deadline_s) == "equal", "symbolic")
        except killable.DeadlineExceeded as error:
            fault = "too_slow"
            if error.busy_s > 0.8 * deadline_s:
                break
        except killable.ChildDied as error:
            fault = "too_large" if error.reason == killable.OUT_OF_MEMORY else "worker_died"
    if fault == "worker_died":
        return Score(None, "failed", "symbolic_worker_died")
    return _costly_gold(gold, deadline_s) or _said(False, fault)


@lru_cache(maxsize=1024)
def _costly_gold(gold: str, deadline_s: float) -> Score | None:
    """No score where the reference answer alone is too much for sympy; None where the other answer is to blame."""
    try:
        _worker().call(gold, _PLAIN, deadline_s=deadline_s)
    except killable.DeadlineExceeded:
        return Score(None, "unscorable", "gold_too_slow")
    except killable.ChildDied:
        return Score(None, "unscorable", "gold_too_large")
    return None


def _asked(gold: str, answer: str) -> str:
    said: str = importlib.import_module("rewards.answers.symbolic").equal(gold, answer)
    return said


def _worker() -> killable.Killable:
    """One child for this process, started when the first pair needs it."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = killable.Killable(_SYMBOLIC)
        return _shared
