"""All learner ranks as one: rows are dealt out, calls are made together, late ranks are named."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
import ray.exceptions

from sailrl.config.schema import RlvrConfig
from sailrl.data.batch import Sample
from sailrl.data.pack import deal_updates
from sailrl.data.parcel import Parcel
from sailrl.errors import LearnerDied, LearnerError, SailError
from sailrl.learner.actor import LearnerActor
from sailrl.learner.objective import UpdateScope
from sailrl.types import Prompt

_actor: Any = LearnerActor  # ray.remote adds methods that type checkers do not see

GRACE_S = 3.0
"""When a rank has failed, how long to wait for what the others say: one may have died, and that is the reason."""


class LearnerGroup:
    """The learner as the loop sees it, however many ranks it has.

    Args:
        actor_options: Ray's options for each rank (GPU, scheduling); None for ranks without an accelerator.
    """

    def __init__(
        self,
        config: RlvrConfig,
        model: str,
        images: str,
        *,
        state: str | None,
        actor_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self._timeout_s = config.learner.timeout_s
        self._actors: list[Any] = [
            _actor.options(num_cpus=0, **options).remote(config, model, images, state=state)
            for options in actor_options or [{}] * config.learner.ranks
        ]
        together = config.learner.ranks > 1 or config.learner.offload != "none"
        meeting_point = self._wait("meeting_point", [self._actors[0].meeting_point.remote()])[0] if together else None
        loading = [actor.load.remote(rank, meeting_point) for rank, actor in enumerate(self._actors)]
        self._has_experts: bool = self._wait("load", loading)[0]

    def set_episode(self, samples: Sequence[Sample], updates: Sequence[Sequence[int]]) -> None:
        """Deals the samples out over the ranks, each update balanced by tokens and by image tokens."""
        self._samples = samples
        self._shards = deal_updates(samples, updates, len(self._actors))
        self._wait(
            "set_episode",
            [
                actor.set_episode.remote(Parcel.of([samples[i] for i in shard]))
                for actor, shard in zip(self._actors, self._shards, strict=True)
            ],
        )

    def compute_old_logprobs(self) -> None:
        """Fixes pi_old for the episode on every rank."""
        self._call("compute_old_logprobs")

    def update(self, rows: Sequence[int], *, clip_low: float, clip_high: float) -> dict[str, float]:
        """One optimizer step on ``rows`` of the episode, over all ranks."""
        wanted = set(rows)
        tokens = sum(len(self._samples[row].response_ids) for row in rows)
        seeing = sum(len(self._samples[row].response_ids) for row in rows if self._samples[row].images)
        scope = UpdateScope(tokens, len(rows), clip_low, clip_high, image_tokens=seeing)
        calls = [
            actor.update.remote([local for local, row in enumerate(shard) if row in wanted], scope)
            for actor, shard in zip(self._actors, self._shards, strict=True)
        ]
        return self._wait("update", calls)[0] | {"tokens": float(tokens)}

    def prompt_logprobs(self, prompt: Prompt) -> list[float]:
        """[P-1] log-probabilities of a prompt's own tokens."""
        return self._call("prompt_logprobs", prompt)[0]

    def expert_load(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """How evenly a set of prompts uses the experts; nothing for a dense model."""
        return self._call("expert_load", prompts)[0] if self._has_experts else {}

    def explain_stale(self, prompt: Prompt, engine: Sequence[float], previous: str) -> list[str]:
        """Parameter groups that an engine did not receive, judged by its log-probabilities."""
        return self._call("explain_stale", prompt, list(engine), previous)[0]

    def explain_weights(
        self, prompt: Prompt, engine: Sequence[float], published: str | None, previous: str | None
    ) -> list[str]:
        """In what an engine's weights differ from the learner's."""
        return self._call("explain_weights", prompt, list(engine), published, previous)[0]

    def explain_responses(self, samples: Sequence[Sample], engine_prompts: Sequence[Sequence[int]]) -> str | None:
        """Why an engine with the same weights gave responses other log-probabilities, or None."""
        return self._call("explain_responses", samples, engine_prompts)[0]

    def export(self, folder: str) -> None:
        """Writes the weights for the engines."""
        self._call("export", folder)

    def open_sender(self, build: Callable[[Any, int], Any], *, timeout_s: float) -> None:
        """Every rank makes its end of a direct way to the engines: ``build(weights, rank)``."""
        calls = [actor.open_sender.remote(build) for actor in self._actors]
        self._wait("open_sender", calls, timeout_s, "sync.timeout_s")

    def send_weights(self, *, timeout_s: float) -> None:
        """Every rank sends its weights to the engines."""
        self._wait("send_weights", [a.send_weights.remote() for a in self._actors], timeout_s, "sync.timeout_s")

    def free_memory(self) -> None:
        """Every rank gives back what it no longer uses of its GPU, for the engine that shares it."""
        self._call("free_memory")

    def save(self, folder: str) -> None:
        """Writes the learner's part of a checkpoint."""
        self._call("save", folder)

    def stop(self) -> None:
        """Ends all ranks."""
        for actor in self._actors:
            ray.kill(actor)

    def _call(self, method: str, *args: Any) -> list[Any]:
        return self._wait(method, [getattr(actor, method).remote(*args) for actor in self._actors])

    def _wait(
        self, method: str, calls: list[Any], timeout_s: float | None = None, setting: str = "learner.timeout_s"
    ) -> list[Any]:
        timeout_s = timeout_s or self._timeout_s
        deadline = time.monotonic() + timeout_s
        late, failed = list(calls), dict[int, Exception]()
        # One at a time: the others wait for a rank that failed, and nobody should wait for them.
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
            _complain(method, failed | _failures(calls, others))
        return ray.get(calls)


def _failures(calls: Sequence[Any], done: Sequence[Any]) -> dict[int, Exception]:
    """What went wrong, by rank."""
    failed: dict[int, Exception] = {}
    for call in done:
        try:
            ray.get(call)
        except (ray.exceptions.RayTaskError, ray.exceptions.RayActorError) as error:
            failed[calls.index(call)] = error
    return failed


def _complain(method: str, failed: Mapping[int, Exception]) -> None:
    """Raises the error of the rank that others failed for: one that died, or one that has words of its own."""
    for rank, error in failed.items():
        if isinstance(error, ray.exceptions.RayActorError):
            raise LearnerDied(
                f"learner rank {rank} died in {method} ({error}). "
                "If it ran out of memory, lower learner.max_tokens_per_microbatch. Run the same command to resume."
            ) from error
    # as_instanceof_cause() would put Ray's traceback in place of the message
    causes = {rank: getattr(error, "cause", error) for rank, error in failed.items()}
    for rank, cause in causes.items():
        if isinstance(cause, SailError | OSError):  # of a full disk the caller knows more
            raise cause from failed[rank]
    rank, cause = next(iter(causes.items()))
    raise LearnerError(f"learner rank {rank} failed in {method}: {type(cause).__name__}: {cause}") from failed[rank]
