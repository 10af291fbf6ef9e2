"""Think-Fusion: one SFT set of many direct answers and a few chains of thought, 90 to 10 by samples.

Source: SAIL-VL2 (arXiv 2509.14033) section 4.2.4 and Table 4: 900K general direct answers and 100K CoT rows that the
model itself generated. A mix is planned in one pass over both pools, holding row numbers and fingerprints but no
text, and written in a second; so the pools must be iterable twice (lists, files wrapped in a class), not generators.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from data_filters.chat import completion_messages, prompt_messages
from data_filters.histogram import LengthHistogram
from data_filters.reading import Row, count_units, first_refusal, question_key, text_key
from data_filters.rejection import Rejection
from sailrl.errors import ConfigError, DataError
from sailrl.types import Filter

Kind: TypeAlias = Literal["cot", "direct"]


@dataclass(frozen=True)
class Fusion:
    """How to mix. ``plan`` returns a :class:`Mix`, which yields the rows and knows the report."""

    cot_share: float = 0.1
    """Share of CoT rows among all rows, by samples; met to the nearest row."""
    total: int | None = None
    """Rows to write; None writes the largest mix at this share that both pools allow."""
    allow_smaller: bool = False
    """True: when a pool is too small for ``total``, write the largest mix with the same share instead of failing."""
    seed: int = 0
    """Decides which rows are taken and how the two kinds alternate."""
    cot_instruction: str = ""
    """Added to the prompt of CoT rows that lack it, e.g. the request to think inside <think></think>; without one,
    nothing but the question tells the model when to think."""
    direct_instruction: str = ""
    """Added to the prompt of direct rows that lack it."""
    direct_template: str = "{answer}"
    """What a direct row without ``response`` answers; e.g. ``\\boxed{{answer}}`` puts ``{answer}`` into a box."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.cot_share <= 1.0:
            raise ConfigError(f"fusion: cot_share = {self.cot_share} must lie in 0..1. The recipe's is 0.1.")
        if self.total is not None and self.total < 1:
            raise ConfigError(f"fusion: total = {self.total} must be at least 1, or null for all that fits.")
        if "{answer}" not in self.direct_template:
            raise ConfigError(f"fusion: direct_template = {self.direct_template!r} must contain {{answer}}.")

    def counts(self, cot: int, direct: int) -> tuple[int, int]:
        """How many CoT and direct rows to take from pools of these sizes.

        Raises:
            DataError: the pools cannot give what is asked; the message has needed and available numbers and a fix.
        """
        for kind, share, pool in (("CoT", self._share, cot), ("direct", 1 - self._share, direct)):
            if share and not pool:
                raise DataError(
                    f"fusion: {float(share):.4g} of the rows must be {kind} and 0 {kind} rows are left. "
                    "Add rows, loosen what drops them, or change cot_share."
                )
        largest = min(int(pool / share) for share, pool in ((self._share, cot), (1 - self._share, direct)) if share)
        need = self._split(largest if self.total is None else self.total)
        if self.allow_smaller and (need[0] > cot or need[1] > direct):
            need = self._split(largest)
        short = [
            f"{needed} {kind} rows and {pool} are left"
            for kind, needed, pool in (("CoT", need[0], cot), ("direct", need[1], direct))
            if needed > pool
        ]
        if short:
            raise DataError(
                f"fusion: {self.total} rows with a CoT share of {self.cot_share:.4g} need {'; '.join(short)}. "
                f"Add rows, set total to at most {largest}, or allow_smaller: true."
            )
        return need

    def _split(self, total: int) -> tuple[int, int]:
        cot = int(total * self._share + Fraction(1, 2))
        return cot, total - cot

    @property
    def _share(self) -> Fraction:
        return Fraction(str(self.cot_share))  # the decimal the user wrote, not its nearest binary float

    def plan(
        self,
        cot: Iterable[Row],
        direct: Iterable[Row],
        *,
        rejection: Rejection | None = None,
        guards: Sequence[Filter] = (),
    ) -> Mix:
        """First pass: decides which rows of the two pools are taken.

        Args:
            cot: scored rollouts: problem fields, ``response``, ``scores``.
            direct: problems with a ``response`` or an ``answer``.
            rejection: chooses among the rollouts; None takes them as chosen already.
            guards: filters every row must pass, e.g. :class:`data_filters.decontaminate.Decontaminate`.

        Raises:
            DataError: a pool cannot be read twice, or is too small.
        """
        for name, pool in (("cot", cot), ("direct", direct)):
            if iter(pool) is pool:
                raise DataError(
                    f"fusion: the {name} pool can be read only once and two passes are needed. Give a list."
                )
        thoughts = _Pool("cot", cot)
        if rejection is None:
            thoughts.admit(guards, lambda row: text_key(question_key(row) + row["response"]))
        else:
            selection = rejection.select(thoughts.watched(), guards)
            thoughts.indexes, thoughts.reasons = array("q", selection.indexes), selection.reasons
        answers = _Pool("direct", direct)
        answers.admit(guards, question_key)
        try:
            take_cot, take_direct = self.counts(len(thoughts.indexes), len(answers.indexes))
        except DataError as error:
            raise DataError(
                f"{error} What became of the rows: CoT {thoughts.story()}; direct {answers.story()}."
            ) from None
        rng = random.Random(self.seed)
        thoughts.take(take_cot, rng)
        answers.take(take_direct, rng)
        order = bytearray([1] * take_cot + [0] * take_direct)
        rng.shuffle(order)
        return Mix(self, thoughts, answers, bytes(order))

    def fuse_row(self, row: Row, kind: Kind, vision: bool) -> dict[str, Any]:
        """One row as it is written: chat, provenance, and images when the set has any."""
        response = cot_response(row) if kind == "cot" else self._direct_response(row)
        instruction = self.cot_instruction if kind == "cot" else self.direct_instruction
        fused = {
            "prompt": prompt_messages(row, instruction, vision),
            "completion": completion_messages(response, vision),
            "kind": kind,
            "source": str(row.get("source") or kind),
            "problem_id": str(row.get("problem_id") or row.get("id") or ""),
            "rollout_id": str(row.get("rollout_id") or text_key(response)),
            "reward": row.get("reward"),
        }
        if row.get("choices"):  # a supervised stage adds them to a prompt that lacks them, as the run did
            fused["choices"] = list(row["choices"])
        return {**fused, "images": list(row.get("images") or ())} if vision else fused

    def _direct_response(self, row: Row) -> str:
        if row.get("response"):
            return str(row["response"])
        answer = row["answer"]
        text = ", ".join(map(str, answer)) if isinstance(answer, (list, tuple)) else str(answer)
        return self.direct_template.replace("{answer}", text)


def cot_response(row: Row) -> str:
    """The whole assistant turn of a rollout: what the template had written of it, then what the model wrote."""
    prefix, response = row.get("response_prefix") or "", row["response"]
    return response if response.startswith(prefix.strip()) else prefix + response


def _has_text(row: Row, kind: str) -> bool:
    return bool(row.get("response")) or (kind == "direct" and row.get("answer") not in (None, "", []))


@dataclass
class _Pool:
    """One source of rows: which of them may be taken, which are, and why the others are not."""

    kind: Kind
    rows: Iterable[Row]
    indexes: array[int] = field(default_factory=lambda: array("q"))
    keys: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    with_images: bytearray = field(default_factory=bytearray)
    """Per row seen, whether it has images."""
    unused: int = 0

    @property
    def seen(self) -> int:
        return len(self.with_images)

    @property
    def vision(self) -> bool:
        """Whether any row that is taken has images."""
        return any(self.with_images[index] for index in self.indexes)

    def story(self) -> str:
        """The counted reasons as text."""
        return ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common()) or "none seen"

    def watched(self) -> Iterator[Row]:
        for row in self.rows:
            self.with_images.append(bool(row.get("images")))
            yield row

    def admit(self, guards: Sequence[Filter], key_of: Callable[[Row], str]) -> None:
        """Admits every row that has a text, is no duplicate and passes the guards."""
        known: set[str] = set()
        for index, row in enumerate(self.watched()):
            reason = self._refusal(row, guards)
            key = key_of(row) if reason is None else ""
            if key in known:
                reason = "duplicate"
            if reason is None:
                known.add(key)
                self.indexes.append(index)
                self.keys.append(key)
            else:
                self.reasons[reason] += 1
        self.reasons["chosen"] = len(self.indexes)

    def _refusal(self, row: Row, guards: Sequence[Filter]) -> str | None:
        if not _has_text(row, self.kind):
            return "no_answer"
        refused = first_refusal(guards, row)
        return None if refused is None else refused.reason

    def take(self, count: int, rng: random.Random) -> None:
        """Keeps ``count`` of the admitted rows, drawn at random, in the pool's order."""
        places = sorted(rng.sample(range(len(self.indexes)), count))
        self.unused = len(self.indexes) - count
        self.keys = [self.keys[place] for place in places] if self.keys else []
        self.indexes = array("q", (self.indexes[place] for place in places))

    def taken(self) -> Iterator[Row]:
        wanted = iter(self.indexes)
        target = next(wanted, None)
        for index, row in enumerate(self.rows):
            if index == target:
                yield row
                target = next(wanted, None)
            if target is None:
                return


@dataclass
class Mix:
    """A planned mix: iterate over it for the rows (the second pass), then ask for the report."""

    fusion: Fusion
    cot: _Pool
    direct: _Pool
    order: bytes
    """1 for a CoT row, 0 for a direct one. Rows of one kind keep their pool's order: trainers shuffle anyway."""
    lengths: dict[str, LengthHistogram] = field(default_factory=dict)
    in_both: int = 0

    def __post_init__(self) -> None:
        self.vision = self.cot.vision or self.direct.vision
        """Whether rows have the ``images`` column and contents in parts: as soon as one row written has images."""

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.lengths = {kind: LengthHistogram() for kind in ("cot", "direct")}
        self.in_both = 0
        answered = set(self.direct.keys)
        pools = {0: (self.direct, self.direct.taken()), 1: (self.cot, self.cot.taken())}
        for kind in self.order:
            pool, rows = pools[kind]
            try:
                row = next(rows)
            except StopIteration:
                raise DataError(
                    f"fusion: the {pool.kind} pool had {pool.seen} rows in the first pass and fewer in the second. "
                    "It must not change in between."
                ) from None
            fused = self.fusion.fuse_row(row, pool.kind, self.vision)
            if kind and question_key(row) in answered:
                self.in_both += 1
            completion = fused["completion"][0]["content"]
            self.lengths[pool.kind].add(count_units(completion[0]["text"] if self.vision else completion))
            yield fused

    def report(self) -> dict[str, Any]:
        """What was asked, what was written, and why other rows were not. Lengths need a finished iteration."""
        cot = sum(self.order)
        return {
            "rows": {"total": len(self), "cot": cot, "direct": len(self) - cot},
            "cot_share": {"asked": self.fusion.cot_share, "got": cot / len(self)},
            "pools": {
                pool.kind: {"seen": pool.seen, "reasons": dict(pool.reasons), "unused": pool.unused}
                for pool in (self.cot, self.direct)
            },
            "questions_in_both_kinds": self.in_both,
            "completion_words": {kind: lengths.summary() for kind, lengths in self.lengths.items()},
        }
