"""All learner ranks as one: samples are divided over them, calls run on all together, late ranks are named."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import ray
import ray.exceptions

from sailrl.data.batch import Sample
from sailrl.data.pack import deal_updates
from sailrl.data.parcel import Parcel
from sailrl.errors import LearnerDied, LearnerError, SailError, memory_kill
from sailrl.learner.actor import LearnerActor
from sailrl.learner.build import LearnerSpec
from sailrl.learner.learner import Learner
from sailrl.learner.objective import UpdateScope, with_advantage
from sailrl.learner.weights import CheckpointWeights

_actor: Any = LearnerActor  # ray.remote adds methods that type checkers do not see

GRACE_S = 3.0
"""Seconds to wait for the other ranks when one has failed: another may have died, which is then the cause."""


P = ParamSpec("P")
R = TypeVar("R")


def _on_every_rank(method: Callable[Concatenate[Learner, P], R]) -> Callable[Concatenate[LearnerGroup, P], R]:
    """A method of ``Learner`` as one of ``LearnerGroup``: see ``LearnerGroup.call``."""

    @wraps(method)
    def call(group: LearnerGroup, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = group.call(method.__name__, *args, **kwargs)
        return result

    return call


class LearnerGroup:
    """The learner as the loop sees it, with any number of ranks. Every call blocks until all ranks are done.

    Args:
        actor_options: Ray's options for each rank (GPU, scheduling); None for ranks without an accelerator.
    """

    def __init__(self, spec: LearnerSpec, *, actor_options: Sequence[Mapping[str, Any]] | None = None) -> None:
        config = spec.learner
        self._timeout_s = config.timeout_s
        # The load of experts takes the tokens of all rows, too.
        self._takes_all = bool(config.router_aux_coef) or spec.objective.needs_every_response
        self._actors: list[Any] = [
            _actor.options(num_cpus=0, **options).remote(spec, start_folder=os.getcwd())
            for options in actor_options or [{}] * config.ranks
        ]
        meet = self._actors[0].meeting_point
        meeting_point = self._wait("meeting_point", [meet.remote()])[0] if config.distributed else None
        loading = [actor.load.remote(rank, meeting_point) for rank, actor in enumerate(self._actors)]
        self._wait("load", loading)

    def set_episode(self, samples: Sequence[Sample], updates: Sequence[Sequence[int]]) -> None:
        """Divides the samples of an episode over the ranks.

        Args:
            samples: all samples of the episode.
            updates: for each update the indices of its samples; each is balanced by tokens and by image tokens.
        """
        self._samples = samples
        self._shards = deal_updates(samples, [self._learned_from(rows) for rows in updates], len(self._actors))
        self._wait(
            "set_episode",
            [
                actor.set_episode.remote(Parcel.of([samples[i] for i in shard]))
                for actor, shard in zip(self._actors, self._shards, strict=True)
            ],
        )

    def update(self, rows: Sequence[int], *, clip_low: float, clip_high: float) -> dict[str, float]:
        """One optimizer step on the samples with the indices ``rows``, over all ranks; see ``Learner.update``.

        Samples without an advantage count in the mean that the loss is, and are not computed.

        Returns:
            The update's metrics, and ``tokens``: the response tokens that it learned from.
        """
        learned = self._learned_from(rows)
        scope = UpdateScope.of(self._samples, learned, rows, clip_low=clip_low, clip_high=clip_high)
        return self._update(learned, scope) | {"tokens": float(scope.tokens)}

    def imitate(self, samples: Sequence[Sample], rate: float) -> dict[str, float]:
        """One supervised step on ``samples``, over all ranks.

        Args:
            rate: the learning rate.

        Returns:
            What ``Learner.update`` does.
        """
        rows = range(len(samples))
        self.set_episode(samples, [rows])
        return self._update(rows, UpdateScope.of(samples, rows, rows), rate)

    def _update(self, rows: Sequence[int], *arguments: Any) -> dict[str, float]:
        chosen = set(rows)
        calls = [
            actor.call.remote("update", [place for place, row in enumerate(shard) if row in chosen], *arguments)
            for actor, shard in zip(self._actors, self._shards, strict=True)
        ]
        metrics: dict[str, float] = self._wait("update", calls)[0]
        return metrics

    def _learned_from(self, rows: Sequence[int]) -> list[int]:
        return list(rows) if self._takes_all else with_advantage(self._samples, rows)

    note = _on_every_rank(Learner.note)
    compute_old_logprobs = _on_every_rank(Learner.compute_old_logprobs)
    prompt_logprobs = _on_every_rank(Learner.prompt_logprobs)
    limit_first_update = _on_every_rank(Learner.limit_first_update)
    expert_load = _on_every_rank(Learner.expert_load)
    explain_weights = _on_every_rank(Learner.explain_weights)
    explain_responses = _on_every_rank(Learner.explain_responses)
    export = _on_every_rank(Learner.export)
    free_memory = _on_every_rank(Learner.free_memory)
    save = _on_every_rank(Learner.save)
    keep_state = _on_every_rank(Learner.keep_state)
    roll_back = _on_every_rank(Learner.roll_back)

    def open_sender(self, build: Callable[[CheckpointWeights, int], Any], *, timeout_s: float) -> None:
        """``Learner.open_sender`` on every rank, within ``timeout_s`` seconds."""
        calls = [actor.call.remote("open_sender", build) for actor in self._actors]
        self._wait("open_sender", calls, timeout_s, "sync.timeout_s")

    def send_weights(self, *, timeout_s: float) -> None:
        """``Learner.send_weights`` on every rank, within ``timeout_s`` seconds."""
        calls = [actor.call.remote("send_weights") for actor in self._actors]
        self._wait("send_weights", calls, timeout_s, "sync.timeout_s")

    def stop(self) -> None:
        """Ends all ranks."""
        for actor in self._actors:
            ray.kill(actor)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method of ``Learner`` on every rank with the same arguments; returns rank 0's result.

        Raises:
            LearnerDied: a rank died, or did not finish within ``learner.timeout_s`` seconds.
            SailError: the error of the rank that failed first.
        """
        return self._wait(method, [actor.call.remote(method, *args, **kwargs) for actor in self._actors])[0]

    def _wait(
        self, method: str, calls: list[Any], timeout_s: float | None = None, setting: str = "learner.timeout_s"
    ) -> list[Any]:
        timeout_s = timeout_s or self._timeout_s
        deadline = time.monotonic() + timeout_s
        late, failed = list(calls), dict[int, Exception]()
        # One at a time: when a rank fails, the others hang in a collective, and must not be waited for.
        while late and not failed:
            done, late = ray.wait(late, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                ranks = ", ".join(str(calls.index(call)) for call in late)
                raise LearnerDied(
                    f"learner rank {ranks} did not finish {method} within {timeout_s:g} s ({setting}). "
                    "Run the same command to resume, with a longer deadline if the machine is slow."
                )
            failed |= _failures(calls, done)
        if failed:
            others, _ = ray.wait(late, num_returns=len(late), timeout=GRACE_S) if late else ([], [])
            raise_cause(method, failed | _failures(calls, others))
        return ray.get(calls)


def _failures(calls: Sequence[Any], done: Sequence[Any]) -> dict[int, Exception]:
    """The errors of finished calls, by rank."""
    failed: dict[int, Exception] = {}
    for call in done:
        try:
            ray.get(call)
        except ray.exceptions.RayError as error:
            failed[calls.index(call)] = error
    return failed


def raise_cause(method: str, failed: Mapping[int, Exception]) -> None:
    """Raises the most telling error.

    Raises:
        LearnerDied: a rank died.
        SailError, OSError: else the first of these.
        LearnerError: else, with the first error of a rank.
    """
    for rank, error in failed.items():
        if isinstance(error, ray.exceptions.OutOfMemoryError):
            raise LearnerDied(
                f"learner rank {rank} is lost in {method}. {memory_kill(str(error))} Lower "
                "learner.max_tokens_per_microbatch or rollout.engine.kv_cache_gib. Run the same command to resume."
            ) from error
        if isinstance(error, ray.exceptions.RayActorError):
            raise LearnerDied(
                f"learner rank {rank} died in {method} ({error}). "
                "If it ran out of memory, lower learner.max_tokens_per_microbatch. Run the same command to resume."
            ) from error
    # as_instanceof_cause() would put Ray's traceback in place of the message
    causes = {rank: getattr(error, "cause", error) for rank, error in failed.items()}
    for rank, cause in causes.items():
        if isinstance(cause, SailError | OSError):  # for a full disk the caller has the better message
            raise cause from failed[rank]
    rank, cause = next(iter(causes.items()))
    raise LearnerError(f"learner rank {rank} failed in {method}: {type(cause).__name__}: {cause}") from failed[rank]
