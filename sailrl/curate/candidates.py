"""The pool of a filter: its problems after the first steps, each with the key under which its samples are kept."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_filters.reading import image_digest, question_key
from sailrl.config.filtering import FilterConfig, ProblemsConfig
from sailrl.curate.steps import build_steps
from sailrl.data.contract import parse_problem
from sailrl.data.fields import BrokenRow
from sailrl.data.images import FOLDER, ImageStore
from sailrl.data.problems import BadProblem, ProblemReader
from sailrl.errors import DataError
from sailrl.types import Problem, Verdict


@dataclass(frozen=True, slots=True)
class Candidate:
    """A problem that a model is to try."""

    row: dict[str, Any]
    """Every field of its row, as the steps left it; images are absolute paths or bytes."""
    problem: Problem
    key: str
    """Fingerprint of all that the model sees and the rewards read: what its samples are kept under."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A problem that goes no further, and why."""

    row: dict[str, Any]
    step: str
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def by_step(cls, row: dict[str, Any], verdict: Verdict) -> Dropped:
        """A row that a ``Pipeline`` has dropped."""
        return cls(row, verdict.evidence["step"], verdict.reason, dict(verdict.evidence))


@dataclass(slots=True)
class ProblemPool:
    """The problems to sample, and those that were dropped before."""

    candidates: list[Candidate]
    dropped: list[Dropped]
    bad_rows: list[BadProblem]
    steps: dict[str, Counter[str]]
    """Reasons by step; those of a step sum to the rows that reached it."""
    notes: list[str] = field(default_factory=list)
    """One line for each column of the rows that is not used."""

    @property
    def rows(self) -> int:
        """Usable rows that were read."""
        return len(self.candidates) + len(self.dropped)


def load_pool(config: FilterConfig, data: ProblemsConfig, run_dir: Path) -> ProblemPool:
    """Reads the problems and takes them through the first steps.

    A row without an id gets one made of its content, so that it is the same row wherever it is in the file.

    Raises:
        DataError: the source cannot be read, has no usable row, or has bad rows and ``data.on_bad_row`` is ``error``.
    """
    reader = ProblemReader(data.problems, "data.problems", store=ImageStore(run_dir / FOLDER))
    rows = [_named(row, problem) for row, problem in reader]
    reader.check(data.on_bad_row)
    pool = ProblemPool([], [], reader.bad_rows, {}, reader.notes(write_choices=data.write_choices))
    named: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.setdefault("id", _content_id(row)) in named:
            pool.dropped.append(Dropped(row, "id", "duplicate", {"of": row["id"]}))
        else:
            named[row["id"]] = row
    steps, prompts = build_steps(config, list(named.values()), run_dir), Counter[str]()
    for row in named.values():
        conversion = steps.convert(row)
        if conversion.row is None:
            pool.dropped.append(Dropped.by_step(row, conversion.verdict))
            continue
        try:
            pool.candidates.append(_candidate(dict(conversion.row), config.rollout.engine.images_per_prompt))
        except DataError as error:
            pool.dropped.append(Dropped(row, "prompt", "unusable", {"detail": str(error)}))
            prompts["unusable"] += 1
    duplicates = Counter({"duplicate": len(rows) - len(named)})
    pool.steps = {"id": +duplicates, **steps.counts, "prompt": prompts}
    return pool


def _named(row: dict[str, Any], problem: Problem) -> dict[str, Any]:
    """The row with its own id; without an id if that is only its line number."""
    rest = {name: value for name, value in row.items() if name != "id"}
    return rest if row.get("id") is None else {**rest, "id": problem.id}


def _content_id(row: dict[str, Any]) -> str:
    try:
        return question_key(row)
    except DataError:  # an image was removed meanwhile; the row is dropped later
        return question_key(row, images="path")


def _candidate(row: dict[str, Any], most_images: int) -> Candidate:
    try:
        problem = parse_problem(row, where=row["id"], need_prompt=True, folder=Path("/"))
    except BrokenRow as broken:
        raise DataError(f"problem {row['id']}: {broken.field}: {broken.rule}") from None
    if len(problem.images) > most_images:
        raise DataError(
            f"problem {problem.id} has {len(problem.images)} images, the engine takes {most_images} per prompt "
            "(rollout.engine.images_per_prompt)"
        )
    return Candidate(row, problem, problem_digest(problem))


def problem_digest(problem: Problem) -> str:
    """32 hex digits that change when the prompt or the scoring of the problem would change.

    Raises:
        DataError: an image cannot be read.
    """
    meta = {name: value for name, value in problem.meta.items() if name != "filters"}
    plain = replace(problem, meta=meta)
    names = ("prompt", "answer", "response_prefix", "choices", "precision", "task", "meta")
    times = [[frame.time_s for frame in video] for video in problem.videos]
    text = json.dumps([*(getattr(plain, name) for name in names), times], sort_keys=True, default=str)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    frames = (frame.image for video in problem.videos for frame in video)
    for image in (*problem.images, *frames):
        digest.update(image_digest(image))
    return digest.hexdigest()
