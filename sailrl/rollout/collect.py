"""Collects an episode: draws prompts, samples and scores groups, and keeps those with a learning signal."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sailrl.config.schema import DynamicSampling
from sailrl.errors import DataError, RewardError
from sailrl.rollout.engine import Pool, Request, Sampling
from sailrl.types import Completion, Group, Prompt, Rollout, Verdict

GIVEN_UP = "given_up"
"""Why a group with a learning signal was not trained on: its episode failed."""
ScoreFn = Callable[[Prompt, Completion], Awaitable[Rollout]]
"""Scores one completion; bad responses become unscored rollouts, never exceptions."""


class NothingToLearn(DataError):
    """After ``max_waves`` waves there are too few groups with a learning signal."""


class PromptSource(Protocol):
    """The order in which prompts are used: ``take`` returns the indices of the next ones."""

    def take(self, count: int) -> list[int]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(slots=True)
class Collection:
    """One episode's groups."""

    kept: list[Group] = field(default_factory=list)
    """Exactly the number of groups wanted, in the order in which their prompts were drawn."""
    dropped: list[tuple[Group, str]] = field(default_factory=list)
    """The others, each with the reason."""
    waves: int = 0

    def metrics(self) -> dict[str, float]:
        """``groups/kept``, ``groups/dropped`` and one count per reason."""
        reasons = Counter(reason for _, reason in self.dropped)
        counts = {"groups/kept": len(self.kept), "groups/dropped": len(self.dropped), "groups/waves": self.waves}
        return {
            **{k: float(v) for k, v in counts.items()},
            **{f"groups/dropped_{r}": float(n) for r, n in reasons.items()},
        }


def admit(group: Group, accuracy: str, settings: DynamicSampling) -> Verdict:
    """DAPO's dynamic sampling (arXiv 2503.14476, section 3.2): a group has a learning signal when its
    scores are not all equal.

    Decided on the scores of the accuracy part, not on the shaped reward, which differs even between two wrong answers.
    Responses that could not be scored are left out.
    """
    values = [r.scores[accuracy].value for r in group.rollouts if r.reward is not None]
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Verdict(False, "unscored")
    if settings.enabled and max(known) - min(known) < 1e-6:
        return Verdict(False, "all_correct" if known[0] >= 1.0 else "all_wrong" if known[0] <= 0.0 else "all_equal")
    return Verdict(True, "kept")


class Collector:
    """Draws, samples, scores and filters until an episode is full. Its state makes a resumed run draw the same prompts.

    Args:
        score: scores one completion.
        accuracy: name of the score that dynamic sampling compares.
        seed: makes every wave repeatable; None gives each prompt to the next free worker.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        source: PromptSource,
        pool: Pool,
        score: ScoreFn,
        *,
        sampling: Sampling,
        settings: DynamicSampling,
        accuracy: str,
        max_unscored_rate: float,
        seed: int | None,
    ) -> None:
        self._prompts, self._source, self._pool, self._score = prompts, source, pool, score
        self._sampling, self._settings, self._accuracy = sampling, settings, accuracy
        self._max_unscored_rate, self._seed = max_unscored_rate, seed
        self._backlog: deque[int] = deque()  # prompts whose groups had a learning signal, but were not needed
        self._sampled: list[Group] = []  # groups that are scored, but not returned yet

    async def collect(self, wanted: int, version: int) -> Collection:
        """Collects ``wanted`` groups with the weights of ``version``.

        Raises:
            NothingToLearn: after ``max_waves`` waves the episode is still not full.
            RewardError: more responses than allowed could not be scored.
        """
        done = Collection()
        ask = math.ceil(wanted * (self._settings.oversample if self._settings.enabled else 1))
        while len(done.kept) < wanted:
            if done.waves == self._settings.max_waves:
                raise NothingToLearn(exhausted(done, len(done.kept), wanted, self._settings.max_waves))
            indices = self._draw(ask)
            groups = await self.sample(
                [self._prompts[i] for i in indices],
                self._sampling,
                self._wave(version, done.waves),
                finished=lambda _, group: self._sampled.append(group),
            )
            for index, group in zip(indices, groups, strict=True):
                verdict = admit(group, self._accuracy, self._settings)
                if not verdict.keep:
                    done.dropped.append((group, verdict.reason))
                elif len(done.kept) < wanted:
                    done.kept.append(group)
                else:
                    done.dropped.append((group, "surplus"))
                    self._backlog.append(index)
            done.waves += 1
            self._check_unscored(done.dropped, done.kept)
            tried = len(done.kept) + len(done.dropped)
            rate = max(len(done.kept) / tried, 1 / 8)  # as many as needed at this rate, but no more than 8 times
            ask = min(wanted, math.ceil((wanted - len(done.kept)) / rate))
        self._sampled.clear()
        return done

    def unfinished(self) -> list[tuple[Group, str]]:
        """The groups of an episode that ``collect`` could not complete, each with the reason why it has no learning
        signal, or ``given_up``."""
        verdicts = [(group, admit(group, self._accuracy, self._settings)) for group in self._sampled]
        return [(group, GIVEN_UP if verdict.keep else verdict.reason) for group, verdict in verdicts]

    async def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int | None, **options: Any
    ) -> list[Group]:
        """One wave of groups; see ``sample_groups``."""
        return await sample_groups(self._pool, self._score, prompts, sampling, seed, **options)

    async def stop(self) -> None:
        """Cancels what is being sampled: nothing, between two calls of ``collect``."""

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; with the same weights a restored collector collects the same episodes."""
        return {"source": self._source.state_dict(), "backlog": list(self._backlog)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes a state of ``state_dict``."""
        self._source.load_state_dict(state["source"])
        self._backlog = deque(state["backlog"])

    def _draw(self, count: int) -> list[int]:
        first = [self._backlog.popleft() for _ in range(min(count, len(self._backlog)))]
        return first + self._source.take(count - len(first))

    def _wave(self, version: int, wave: int) -> int | None:
        return None if self._seed is None else wave_seed(self._seed, "train", version, wave)

    def _check_unscored(self, dropped: Iterable[tuple[Group, str]], kept: Iterable[Group]) -> None:
        check_unscored([*kept, *(group for group, _ in dropped)], self._max_unscored_rate)


async def sample_groups(
    pool: Pool,
    score: ScoreFn,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    seed: int | None = None,
    finished: Callable[[int, Group], None] = lambda index, group: None,
) -> list[Group]:
    """One wave: groups in the order of ``prompts``, each response scored as soon as it is complete.

    Args:
        finished: called with a prompt's position and its group as soon as the group is scored.
    """

    async def scored(index: int, completions: Sequence[Completion]) -> Group:
        prompt = prompts[index]
        group = Group(prompt, await asyncio.gather(*(score(prompt, completion) for completion in completions)))
        finished(index, group)
        return group

    scoring: dict[int, asyncio.Future[Group]] = {}
    requests = [Request(i, p.engine_ids, p.images, len(p.token_ids)) for i, p in enumerate(prompts)]
    try:
        async for index, completions in pool.generate(requests, sampling, seed=seed):
            scoring[index] = asyncio.ensure_future(scored(index, completions))
        return [await scoring[i] for i in range(len(prompts))]
    finally:
        for task in scoring.values():  # after a failure the results of the others are not needed
            task.cancel()


def check_unscored(groups: Sequence[Group], max_rate: float) -> None:
    """Checks that most responses could be scored.

    Raises:
        RewardError: a larger share than ``max_rate`` has no reward; the message has the most frequent reasons.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    unscored = Counter(r.reason for r in rollouts if r.reward is None)
    count = sum(unscored.values())
    if count > max_rate * len(rollouts):
        reasons = ", ".join(f"{n} x {reason}" for reason, n in unscored.most_common(3))
        raise RewardError(
            f"{count} of {len(rollouts)} responses could not be scored ({reasons}); allowed is a share of "
            f"{max_rate:g} (rewards.max_unscored_rate). The responses are in the run folder. Fix the reward or the "
            "judge, and run the same command to resume."
        )


def wave_seed(seed: int, purpose: str, version: int, wave: int) -> int:
    """A 31-bit seed that differs for every purpose, version and wave, and is the same on every machine."""
    return zlib.crc32(f"{seed}/{purpose}/{version}/{wave}".encode()) & 0x7FFFFFFF


def exhausted(done: Collection, admitted: int, wanted: int, waves: int) -> str:
    """The message of NothingToLearn."""
    reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(r for _, r in done.dropped).most_common())
    return (
        f"{waves} waves (rollout.dynamic_sampling.max_waves) gave {admitted} of {wanted} groups with a learning "
        f"signal; dropped: {reasons}. All correct: the problems are solved, use harder ones. All wrong: the problems "
        "are too hard or the reward never fires; look at rollouts.jsonl, and filter problems by pass@4."
    )
