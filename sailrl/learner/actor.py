"""The Ray shell around one learner rank."""

from __future__ import annotations

from collections.abc import Sequence

import ray
import torch
import torch.distributed as dist

from sailrl.config.schema import RlvrConfig
from sailrl.data.batch import Sample
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective, UpdateScope
from sailrl.types import Prompt


@ray.remote
class LearnerActor:
    """One rank. ``state`` is a checkpoint folder to continue from, or None."""

    def __init__(
        self,
        config: RlvrConfig,
        model: str,
        banned_ids: Sequence[int],
        *,
        rank: int,
        rendezvous: str,
        state: str | None,
    ) -> None:
        if config.learner.threads:
            torch.set_num_threads(config.learner.threads)
        torch.manual_seed(config.run.seed + rank)
        if config.learner.ranks > 1:
            dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=config.learner.ranks)
        policy = Policy(
            model,
            dtype=config.model.dtype,
            temperature=config.rollout.temperature,
            banned_ids=banned_ids,
            trust_remote_code=config.model.trust_remote_code,
            activation_checkpointing=config.learner.activation_checkpointing,
        )
        self._learner = Learner(policy, Objective(config.algorithm, config.mismatch), config.learner)
        if state is not None:
            self._learner.restore(state)

    def ready(self) -> None:
        """Returns once the model is loaded."""

    def set_episode(self, samples: Sequence[Sample]) -> None:
        self._learner.set_episode(samples)

    def compute_old_logprobs(self) -> None:
        self._learner.compute_old_logprobs()

    def update(self, rows: Sequence[int], scope: UpdateScope) -> dict[str, float]:
        return self._learner.update(rows, scope)

    def prompt_logprobs(self, prompt: Prompt) -> list[float]:
        return self._learner.prompt_logprobs(prompt)

    def explain_stale(self, prompt: Prompt, engine: Sequence[float], previous: str) -> list[str]:
        return self._learner.explain_stale(prompt, engine, previous)

    def export(self, folder: str) -> None:
        self._learner.export(folder)

    def save(self, folder: str) -> None:
        self._learner.save(folder)
