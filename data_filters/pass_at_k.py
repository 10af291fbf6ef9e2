"""The pass@4 filter: keep the problems a model sometimes solves and sometimes does not.

Source: SAIL-VL2 (arXiv 2509.14033) section 4.2.3, filter 2; the estimator is Chen et al. (arXiv 2107.03374), eq. 1.

**What "pass@4" means in the recipe.** The papers drop problems with "pass@4 = 1" and, for reasoning-heavy tasks, also
those with "pass@4 = 0". Read literally, pass@4 is the chance that any of 4 answers is right; dropping 1 would then
throw away every problem the model ever solves. What they must mean is the **accuracy of 4 samples**, the share of them
that are right: keep 1/4, 2/4 and 3/4. So :class:`PassAtK` decides on accuracy c/n, and writes the literal pass@k into
the evidence as well.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sailrl.errors import ConfigError, DataError
from sailrl.types import Score, Verdict, reaches

Rule: TypeAlias = Literal["reasoning", "perception"]

RULES: Mapping[str, Rule] = {
    "math": "reasoning",
    "puzzle": "reasoning",
    "science": "reasoning",
    "choice": "reasoning",
    "ocr": "perception",
    "count": "perception",
    "counting": "perception",
    "box": "perception",
    "yes_no": "perception",
}
"""Which rule each task follows. The paper names Math, Puzzle, Science, OCR and Counting, and says that tasks "without
explicit reasoning" lose only what is always right; that OCR, counting, boxes and yes/no are those tasks is our
reading."""

EXACT_TERMS = 1000
"""Up to this many factors the estimator is computed in whole numbers and rounded once; beyond it, as a sum of logs."""

SAMPLE_FIELDS = ("samples", "scores", "rewards")
"""Where a row may keep one score per response."""


class InvalidCounts(DataError, ValueError):
    """n, c and k contradict each other. A data error for a user's row, a ValueError for a caller of the function."""


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that at least one of ``k`` answers drawn from ``n`` samples is right, when ``c`` of the n are.

    The unbiased estimator ``1 - C(n - c, k) / C(n, k)``: the naive ``1 - (1 - c/n)**k`` draws with replacement and is
    too low.

    Args:
        n: samples with a score, at least k.
        c: right ones among them, 0 to n.
        k: answers one may give, at least 1.

    Raises:
        InvalidCounts: the three contradict each other; the message has both numbers.
        TypeError: one of them is not a whole number.
    """
    n, c, k = operator.index(n), operator.index(c), operator.index(k)
    _check_counts(n, c)
    if k < 1:
        raise InvalidCounts(f"pass@k: k = {k} must be at least 1, for {n} samples.")
    if k > n:
        raise InvalidCounts(
            f"pass@k: k = {k} is more than the n = {n} samples. Sample at least {k}, or lower k to {n}."
        )
    # C(n-c, k) / C(n, k) = C(n-k, c) / C(n, c): the shorter product of the two, each factor (n - long - i) / (n - i).
    short, long = sorted((c, k))
    if short > n - long:
        return 1.0  # fewer than k wrong samples: any k of them hold a right one
    if short <= EXACT_TERMS:
        everything = math.perm(n, short)
        return (everything - math.perm(n - long, short)) / everything
    return -math.expm1(math.fsum(math.log1p(-long / (n - i)) for i in range(short)))


def _check_counts(n: int, c: int) -> None:
    if n < 0 or c < 0:
        raise InvalidCounts(f"pass@k: n = {n} and c = {c} are counts and cannot be negative.")
    if c > n:
        raise InvalidCounts(
            f"pass@k: c = {c} right answers among n = {n} samples cannot be. Count scored samples only."
        )


@dataclass(frozen=True)
class PassAtK:
    """Keeps a problem when ``keep[0] < accuracy < keep[1]``, accuracy being the share of right ones among its
    scored samples.

    With the defaults and 4 samples, the rows with 1, 2 or 3 right answers stay (the rule for reasoning tasks). With
    ``drop_impossible=False`` a row that was never solved stays too (the rule for perception tasks).

    A row is a mapping with the counts ``n`` and ``c``, or with ``samples``: one score per response (a number, a bool, a
    :class:`~sailrl.types.Score`, a mapping with ``value``, or None); lists named ``scores`` or ``rewards`` are read
    alike. A sample without a score is no evidence and leaves n. A bare list is taken as the samples. When a row has
    both, they must agree.

    Reasons: ``kept``, ``too_easy``, ``impossible`` (accuracy 0), ``too_hard`` (above 0, not above keep[0]),
    ``too_few_samples`` (fewer than k with a score). Evidence: ``n``, ``c``, ``accuracy``, ``pass@<k>`` (None where
    undefined).
    """

    k: int = 4
    """Fewest scored samples a decision needs, and the k of the literal pass@k in the evidence."""
    keep: Sequence[float] = (0.0, 1.0)
    """Accuracy must lie strictly between the two."""
    drop_impossible: bool = True
    """False: never solved is no reason to drop; the lower bound must then be 0."""
    correct_from: float = 1.0
    """A sample counts as right from this score on; 1.0 fits 0/1 rewards, lower it for weighted ones."""

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ConfigError(f"PassAtK: k = {self.k!r} must be a whole number of at least 1.")
        if len(self.keep) != 2 or not 0.0 <= self.keep[0] < self.keep[1] <= 1.0:
            raise ConfigError(
                f"PassAtK: keep = {tuple(self.keep)!r} must be two accuracies with 0 <= low < high <= 1. "
                "The recipe's is (0.0, 1.0)."
            )
        if not self.drop_impossible and self.keep[0] > 0.0:
            raise ConfigError(
                f"PassAtK: drop_impossible = false keeps accuracy 0, keep[0] = {self.keep[0]} drops what is above it. "
                "Set keep[0] to 0.0, or drop_impossible to true."
            )

    def __call__(self, row: Mapping[str, Any] | Sequence[Any]) -> Verdict:
        n, c = self.counts(row)
        accuracy = c / n if n else None
        evidence = {
            "n": n,
            "c": c,
            "accuracy": accuracy,
            f"pass@{self.k}": pass_at_k(n, c, self.k) if n >= self.k else None,
        }
        reason = "too_few_samples" if accuracy is None or n < self.k else self._reason(accuracy)
        return Verdict(keep=reason == "kept", reason=reason, evidence=evidence)

    def _reason(self, accuracy: float) -> str:
        if accuracy >= self.keep[1]:
            return "too_easy"
        if accuracy == 0.0:
            return "impossible" if self.drop_impossible else "kept"
        return "too_hard" if accuracy <= self.keep[0] else "kept"

    def counts(self, row: Mapping[str, Any] | Sequence[Any]) -> tuple[int, int]:
        """Returns (scored samples, right ones) of a row.

        Raises:
            DataError: the row has neither counts nor samples, or the two disagree, or a sample is no score.
        """
        if not isinstance(row, Mapping):
            return self._count_samples(row)
        samples = next(
            (row[name] for name in SAMPLE_FIELDS if isinstance(row.get(name), (list, tuple))), row.get("samples")
        )
        sampled = None if samples is None else self._count_samples(samples)
        if row.get("n") is None or row.get("c") is None:
            if sampled is None:
                raise DataError(
                    f"row {row.get('id', '')!r} has no evidence: fields {sorted(map(str, row))}. "
                    "The rule: 'n' and 'c', or 'samples' with one score per response."
                )
            return sampled
        counted = _whole(row, "n"), _whole(row, "c")
        _check_counts(*counted)
        if sampled is not None and sampled != counted:
            raise DataError(
                f"row {row.get('id', '')!r}: n, c = {counted} but its samples give {sampled}. Drop one of the two."
            )
        return counted

    def _count_samples(self, samples: Any) -> tuple[int, int]:
        if isinstance(samples, (str, bytes, Mapping)) or not isinstance(samples, Sequence):
            raise DataError(f"samples must be a list with one score per response, got {type(samples).__name__}.")
        values = [value for value in map(_value, samples) if value is not None]
        return len(values), sum(reaches(value, self.correct_from) for value in values)


def _whole(row: Mapping[str, Any], name: str) -> int:
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value).is_integer():
        raise DataError(f"row {row.get('id', '')!r}: {name} = {value!r} must be a whole number.")
    return int(float(value))


def _value(sample: Any) -> float | None:
    """The number in one sample; None (or nan, which is how trainers write "not scored") is no evidence."""
    if isinstance(sample, Score):
        sample = sample.value
    elif isinstance(sample, Mapping):
        if "value" not in sample:
            raise DataError(
                f"a sample {sorted(map(str, sample))} has no 'value'. The rule: number, bool, null or a score."
            )
        sample = sample["value"]
    if sample is None:
        return None
    if not isinstance(sample, numbers.Real):
        raise DataError(f"a sample is {sample!r}. The rule: number, bool, null or a score with 'value'.")
    return None if math.isnan(sample) else float(sample)


@dataclass(frozen=True)
class PassAtKByTask:
    """:class:`PassAtK` with the rule chosen by the row's ``task``: reasoning drops accuracy 0 and 1, perception only 1.

    The verdict's evidence names the rule that was used.
    """

    k: int = 4
    keep: Sequence[float] = (0.0, 1.0)
    """The band of the reasoning rule; perception uses its upper end only."""
    rules: Mapping[str, Rule] = field(default_factory=dict)
    """Tasks to add to (or to change in) the built-in table ``RULES``."""
    default: Rule = "reasoning"
    """The rule for rows without a task or with one the table does not know: the stricter."""
    correct_from: float = 1.0

    def __post_init__(self) -> None:
        for task, rule in {**self.rules, "default": self.default}.items():
            if rule not in ("reasoning", "perception"):
                raise ConfigError(
                    f"PassAtKByTask: {task} has the rule {rule!r}; it must be 'reasoning' or 'perception'."
                )
        self._filter("reasoning")

    def __call__(self, row: Mapping[str, Any]) -> Verdict:
        task = str(row.get("task") or "").lower()
        rule = {**RULES, **self.rules}.get(task, self.default)
        verdict = self._filter(rule)(row)
        return Verdict(verdict.keep, verdict.reason, {**verdict.evidence, "rule": rule})

    def _filter(self, rule: Rule) -> PassAtK:
        if rule == "perception":
            return PassAtK(self.k, (0.0, self.keep[1]), drop_impossible=False, correct_from=self.correct_from)
        return PassAtK(self.k, self.keep, drop_impossible=True, correct_from=self.correct_from)
