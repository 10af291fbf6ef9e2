"""Rejection sampling: which of the model's own rollouts become the next training set.

Source: SAIL-VL2 (arXiv 2509.14033) section 4.2.4: "only the best-performing reasoning chains that the model itself
generated ... both correct and logically sound". How many per problem, which judge and how chains are ranked is not
published: they are fields here.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from data_filters.reading import Row, count_units, first_refusal, problem_key, score_value, text_key
from rewards.repetition import Repetition
from sailrl.errors import ConfigError, DataError
from sailrl.types import Filter, Problem, Verdict, reaches

Rank: TypeAlias = Literal["judge_score", "median_length", "least_repetition"]


_repetition = Repetition()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows were chosen, and what became of the others."""

    indexes: list[int]
    """Positions of the chosen rows in the input, ascending."""
    reasons: Counter[str]
    """How many rows ended with each reason; they sum to the rows seen."""


@dataclass(slots=True)
class _Candidate:
    index: int
    content: str
    length: float
    judge: float
    repetition: float
    tie: bytes


@dataclass(frozen=True)
class Rejection:
    """Chooses from scored rollouts: correct, well-formed and (when asked) sound ones, at most ``at_most`` per problem.

    A row is a problem with a ``response`` and ``scores`` (what ``sailrl score`` writes), optionally ``problem_id``,
    ``finish_reason`` and ``response_tokens``. Calling it on one row says whether the row may be chosen at all;
    ``select`` ranks the admissible ones problem by problem. The choice depends on the rows and the seed, not on the
    rows' order.

    Reasons: ``chosen``; ``admissible`` (of a single call); ``not_scored``, ``wrong``, ``malformed``, ``unsound``,
    ``cut`` (the token limit ended it), ``duplicate`` (the same response to the same problem), ``outranked``.
    """

    correct: str = "boxed"
    """Name of the score that says the answer is right; "reward" takes the row's total instead."""
    correct_from: float = 1.0
    """That score is enough from this value on."""
    well_formed: str | None = "think_format"
    """Name of the score that must be 1 for the form; None asks for no form."""
    sound: str | None = None
    """Name of the score a judge gave the reasoning; None asks no judge."""
    sound_from: float = 1.0
    rank: Sequence[Rank] = ("median_length",)
    """What is better, first criterion first: a higher judge score (needs ``sound``), a length near the median of the
    problem's admissible rollouts, fewer repeated word trigrams. Remaining ties fall by a hash with the seed."""
    at_most: int = 1
    """Rollouts chosen per problem at most."""
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [r for r in self.rank if r not in get_args(Rank)]
        if unknown:
            raise ConfigError(f"rejection: rank {unknown[0]!r} is not known; there are {', '.join(get_args(Rank))}.")
        if "judge_score" in self.rank and self.sound is None:
            raise ConfigError(
                "rejection: rank 'judge_score' needs a judge. Name its score in 'sound', or drop the rank."
            )
        if self.at_most < 1:
            raise ConfigError(f"rejection: at_most = {self.at_most} must be at least 1.")

    def __call__(self, row: Row) -> Verdict:
        """Says whether one rollout may be chosen at all.

        Raises:
            DataError: the row lacks the response or a named score; the message lists the scores it has.
        """
        if not isinstance(row.get("response"), str):
            raise DataError(f"row {problem_key(row)!r} has no 'response' text. Rejection sampling chooses responses.")
        if row.get("finish_reason") == "length":
            return Verdict(False, "cut")
        checks = [(self.correct, self.correct_from, "wrong")]
        if self.well_formed is not None:
            checks.append((self.well_formed, 1.0, "malformed"))
        if self.sound is not None:
            checks.append((self.sound, self.sound_from, "unsound"))
        evidence = {name: score_value(row, name) for name, _, _ in checks}
        for name, enough, reason in checks:
            value = evidence[name]
            if value is None:
                return Verdict(False, "not_scored", evidence)
            if not reaches(value, enough):
                return Verdict(False, reason, evidence)
        return Verdict(True, "admissible", evidence)

    def select(self, rows: Iterable[Row], guards: Sequence[Filter] = ()) -> Selection:
        """Chooses among all rows in one pass, holding a small record per admissible row and no text.

        ``guards`` are further filters an admissible row must pass, such as decontamination; their reasons are counted
        too.

        Raises:
            DataError: some rows have their length in tokens and others only a text.
        """
        reasons: Counter[str] = Counter()
        admitted: dict[str, list[_Candidate]] = {}
        counted_in: set[str] = set()
        for index, row in enumerate(rows):
            verdict = self(row)
            problem = problem_key(row)
            refusal = verdict if not verdict.keep else first_refusal(guards, row)
            if refusal is not None:
                reasons[refusal.reason] += 1
                continue
            counted_in.add("response_tokens" if row.get("response_tokens") is not None else "words")
            if len(counted_in) > 1:
                raise DataError(
                    f"row {index} ({problem!r}): some rows have 'response_tokens' and some have none; lengths would be "
                    "ranked in two units. Give the field to all rows or to none."
                )
            admitted.setdefault(problem, []).append(self._candidate(index, row, problem, verdict))
        chosen: list[int] = []
        for candidates in admitted.values():
            distinct = list({c.content: c for c in reversed(candidates)}.values())  # the first of equal ones stays
            best = self._best(distinct)
            chosen.extend(c.index for c in best)
            reasons["duplicate"] += len(candidates) - len(distinct)
            reasons["outranked"] += len(distinct) - len(best)
        reasons["chosen"] = len(chosen)
        return Selection(sorted(chosen), +reasons)

    def _candidate(self, index: int, row: Row, problem: str, verdict: Verdict) -> _Candidate:
        response = row["response"]
        tokens = row.get("response_tokens")
        content = text_key(response)
        return _Candidate(
            index=index,
            content=content,
            length=float(count_units(response) if tokens is None else tokens),
            judge=verdict.evidence[self.sound] if self.sound is not None else 0.0,
            repetition=-(_repetition(response, Problem()).value or 0.0) if "least_repetition" in self.rank else 0.0,
            tie=hashlib.blake2b(f"{self.seed}|{problem}|{content}".encode(), digest_size=8).digest(),
        )

    def _best(self, candidates: list[_Candidate]) -> list[_Candidate]:
        median = statistics.median(c.length for c in candidates)

        def order(c: _Candidate) -> tuple[float | bytes, ...]:
            cost = {"judge_score": -c.judge, "median_length": abs(c.length - median), "least_repetition": c.repetition}
            return (*(cost[r] for r in self.rank), c.tie)

        return sorted(candidates, key=order)[: self.at_most]
