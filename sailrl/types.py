"""The words of the recipe as records: problem, prompt, completion, rollout, group, score, verdict.

Every room speaks in these and in nothing else, so this module imports the standard library only. Units stand at the
fields: lengths are in tokens, log-probabilities in nats, times in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

Status: TypeAlias = Literal["scored", "unscorable", "failed", "timed_out"]
"""How scoring one response ended.

``scored``: there is a value. ``unscorable``: the data is at fault (an answer no rule can use). ``failed``: our side is
(a judge out of reach, a worker that died). ``timed_out``: the deadline passed. Only ``scored`` counts; everything else
leaves the group, is counted, and is never a quiet 0.
"""
STATUSES: tuple[Status, ...] = ("scored", "unscorable", "failed", "timed_out")

Message: TypeAlias = Mapping[str, Any]
"""One chat message: ``{"role": str, "content": str | list of parts}``; a part is ``{"type": "text", "text": str}`` or
``{"type": "image"}`` or ``{"type": "video"}``, which stands for the next image or video of the problem."""

Part: TypeAlias = Mapping[str, Any]
"""One part of a message's content."""

ImageSource: TypeAlias = str | bytes
"""An image as a path (absolute once loaded) or as the bytes of an encoded file."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a video."""

    image: ImageSource
    time_s: float
    """Seconds from the start of the video."""


Video: TypeAlias = Sequence[Frame]
"""Frames in the order of their times; at least one."""

BANNED_LOGIT_BIAS = -1.0e4
"""Added to the logits of ids that may not be sampled, by engine and learner alike, so that both give the
others the same probabilities. Far below any logit, yet finite in float16; its exponential is exactly 0."""

FinishReason: TypeAlias = Literal["stop", "length", "abort"]
"""``stop``: the model ended its turn. ``length``: cut at the token limit. ``abort``: the engine gave up."""


def content_parts(content: Any) -> list[Part]:
    """The content of a chat message as parts: a plain text is one part. What is not a part is left out."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [part for part in content or () if isinstance(part, Mapping)]


def content_texts(content: Any) -> list[str]:
    """The text of each text part of a message's content."""
    return [str(part.get("text") or "") for part in content_parts(content) if part.get("type") == "text"]


def content_text(content: Any, *, between: str = "", mark: str = "<{}>") -> str:
    """The content of a message as one text: its parts with ``between`` in between, and ``mark`` with the type of the
    part for each that is not text."""
    return between.join(
        str(part.get("text") or "") if part.get("type") == "text" else mark.format(part.get("type"))
        for part in content_parts(content)
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """One task for the model: a row of a problem file (JSONL or Parquet)."""

    prompt: str | Sequence[Message] = ""
    """What is asked, as text or chat messages. Data loading refuses rows without one; scoring does not need it."""
    answer: Any = None
    """The reference answer: str, number, truth value or list of them; None for tasks that only a judge can score."""
    id: str = ""
    """Names the problem in logs and rollouts; data loading fills in ``<file>:<line>`` when the row has none."""
    response_prefix: str = ""
    """What the chat template had already written of the response, e.g. ``<think>\\n``."""
    images: Sequence[ImageSource] = ()
    """In the order in which the prompt shows them."""
    videos: Sequence[Video] = ()
    """A model sees each as some of its frames, which are images with their times (see ``sailrl.data.videos``)."""
    choices: Sequence[str] = ()
    """The options of a multiple-choice question, in the order A, B, C, ..."""
    precision: int | None = None
    """Number of decimals to which a numeric answer is compared."""
    task: str | None = None
    """Kind of answer, e.g. math, choice, count, ocr, box, yes_no, open; None lets the reward find out."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything else about the problem; it is kept, and some rewards read keys of it."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a reward says of one response. ``value`` is a number exactly when ``status`` is ``scored``.

    Raises:
        ValueError: value and status contradict each other, or the value is not finite.
    """

    value: float | None
    """The score; None when there is none."""
    status: Status = "scored"
    """How scoring ended: ``scored``, ``unscorable``, ``failed`` or ``timed_out``."""
    reason: str = ""
    """The rule that decided, in a few fixed words (they become metric names): ``exact``, ``no_box``, ``too_large``."""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"unknown score status {self.status!r}; one of {', '.join(STATUSES)}")
        if (self.value is not None) != (self.status == "scored"):
            raise ValueError(f"a score has a value exactly when it is 'scored', got {self.value!r} and {self.status!r}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a score must be finite, got {self.value!r}")


def scored_fields(reward: float | None, scores: Mapping[str, Score]) -> dict[str, Any]:
    """What scoring adds to a row, in every file: ``reward``, and under ``scores`` each score by its name."""
    named = {name: {"value": s.value, "status": s.status, "reason": s.reason} for name, s in scores.items()}
    return {"reward": reward, "scores": named}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter says of one problem or rollout: keep it or not, and why. Reasons are metrics: few fixed words."""

    keep: bool
    """Whether the row stays."""
    reason: str
    """The rule that decided, in a few fixed words."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The numbers behind the decision, stored with the row (e.g. ``{"n": 4, "c": 2}``)."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A problem as the engine sees it: rendered once, tokenized once, images expanded once."""

    problem: Problem
    """Its ``response_prefix`` is what the rendered text has already written of the response."""
    token_ids: Sequence[int]
    """[P] ids of the rendered chat, one placeholder per image feature (the learner trains on these very ids)."""
    engine_ids: Sequence[int]
    """[P'] the same ids with one placeholder per image: what vLLM takes beside the images. Equal without images."""
    images: Sequence[str] = ()
    """Content hashes into the image store, in order of appearance."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer: token ids in, token ids out; text is for rewards and people only."""

    token_ids: Sequence[int]
    """[T] sampled ids, the end-of-turn id included when the model produced it."""
    logprobs: Sequence[float]
    """[T] log-probabilities of those ids in nats, after temperature, as the engine computed them."""
    text: str
    finish_reason: FinishReason
    version: int
    """Number of the published weights that produced its first token: staleness is counted from it."""
    switches: Sequence[tuple[int, int]] = ()
    """``(token, version)`` for every time that newer weights took over in mid-response; that token is their first."""
    experts: Any = None
    """[layers, P + T - 1, K] array of unsigned integers: the experts that the engine sent each token of prompt and
    response to, the last one apart, which it never read. None unless the engine was asked for them."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion with its scores. ``reward`` is None when any needed part was not scored."""

    completion: Completion
    scores: Mapping[str, Score]
    reward: float | None
    reason: str = ""
    """Why there is no reward, or the combining rule's remark."""

    def right(self, part: str) -> bool | None:
        """Whether the response is right: its score in ``part`` is a full 1. Partial credit is not right. None where
        there is no score."""
        score = self.scores.get(part)
        return None if score is None or score.value is None else reaches(score.value, 1.0)


def reaches(value: float, enough: float) -> bool:
    """``value >= enough`` up to rounding: 0.6 + 0.3 + 0.1, a full reward, is 0.9999999999999999."""
    return value >= enough - 1e-9


def accuracy(rollouts: Iterable[Rollout], part: str) -> float | None:
    """The share of responses that are right, of those with a score in ``part``; None where there is none."""
    known = [right for rollout in rollouts if (right := rollout.right(part)) is not None]
    return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True)
class Group:
    """The completions of one prompt: what advantages are computed over."""

    prompt: Prompt
    rollouts: Sequence[Rollout]


@runtime_checkable
class Reward(Protocol):
    """Scores one response: with a ``Score``, a plain number, or None where it cannot be scored. Any callable with this
    shape is a reward; an ``async def __call__`` runs on an event loop (judges), a plain one in a killable worker
    process.

    Optional extras, each found by name:
      * a keyword-only parameter ``response_tokens: int | None`` receives the length of the response in tokens;
      * a method ``fast(response, problem) -> Score | None`` answers cheap rows in the caller's own process; it must be
        linear in the response and never raise; None means "ask ``__call__``";
      * ``tasks``, the names in ``Problem.task`` that it knows: a row with nearly one of them is told to the user;
      * a method ``dry_run(problem)`` does the work that scoring any response to the problem takes. It runs in a worker
        after a response ran out of time or memory there: when it ends in time, the response is to blame and gets 0 by
        ``too_slow`` or ``too_large``; when it does not, the problem is. Without it, such a response has no score.
    """

    def __call__(self, response: str, problem: Problem) -> Any: ...


@runtime_checkable
class Combine(Protocol):
    """Turns the named scores of one response into its reward. An unscored part makes the total unscored."""

    def __call__(self, scores: Mapping[str, Score], weights: Mapping[str, float]) -> Score: ...


@runtime_checkable
class Filter(Protocol):
    """Decides on one row, with a reason. Filters that remember rows have ``state_dict`` and ``load_state_dict``."""

    def __call__(self, row: Mapping[str, Any]) -> Verdict: ...
