"""The learner: a plain class that runs in one process per rank. ``actor`` runs it in a Ray actor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sailrl.algos.reduce import merge_metrics
from sailrl.config.learner import LearnerConfig
from sailrl.data.batch import Batch, Sample, collate
from sailrl.data.pack import micro_batches
from sailrl.errors import LearnerError, MismatchError
from sailrl.learner import checkpoint, diagnose, lora, ranks, stale
from sailrl.learner.budget import Budget, BudgetSpent
from sailrl.learner.checkpoint import writing
from sailrl.learner.diagnose import Finding
from sailrl.learner.loss_scale import LossScale
from sailrl.learner.model import Policy
from sailrl.learner.moe import COUNTS, RoutingMemory, load_metrics, over_ranks
from sailrl.learner.objective import Objective, UpdateScope
from sailrl.learner.optim import build_optimizer, learning_rate
from sailrl.learner.reference import ReferencePolicy
from sailrl.learner.rounding import other_last_bits
from sailrl.learner.supervised import SupervisedObjective
from sailrl.learner.weights import CheckpointWeights
from sailrl.types import Prompt

_DUMMY = Sample(np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.float32), advantage=0.0)


class Learner:
    """Holds the policy, its optimizer and the samples of the current episode.

    The gradient of an update does not depend on how its rows are split into micro-batches or over ranks: every loss is
    divided by the update's global denominator, and gradients are summed.
    """

    def __init__(
        self,
        policy: Policy,
        objective: Objective | SupervisedObjective,
        config: LearnerConfig,
        reference: ReferencePolicy | None = None,
    ) -> None:
        self.policy, self._objective, self._config, self._reference = policy, objective, config, reference
        self.optimizer = build_optimizer(policy, config)
        self.loss_scale = LossScale(policy.dtype)
        self.updates = 0
        self._samples: Sequence[Sample] = ()
        self._old_logp: list[torch.Tensor] | None = None
        self._routes = RoutingMemory()
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        if config.routing_replay != "none" and not policy.routers.names:
            raise LearnerError(
                f"learner.routing_replay is {config.routing_replay}, but this model has no experts to route to. "
                "Write routing_replay: none."
            )

    def note(self) -> str | None:
        """What to tell about the model, in one line; None where all is as usual."""
        return self.policy.note

    def set_episode(self, samples: Sequence[Sample]) -> None:
        """Sets this rank's samples of an episode; old log-probabilities of the episode before are dropped.

        Raises:
            LearnerError: with ``routing_replay: r3``, the experts of a sample do not cover every layer and token.
        """
        self._samples, self._old_logp = samples, None
        self._routes.clear()
        if self._config.routing_replay == "r3":
            for row, sample in enumerate(samples):
                self._routes.take(row, sample, self.policy.routers)

    @torch.no_grad()
    def compute_old_logprobs(self) -> None:
        """Computes the samples' log-probabilities under the current weights, which are pi_old from now on."""
        old: list[torch.Tensor] = [torch.empty(0)] * len(self._samples)
        for rows, run_vision in self._passes(range(len(self._samples))):
            batch = self._collate(rows)
            if not rows:
                self.policy(batch, run_vision=run_vision)
                continue
            replay = self._routes.replay(rows, batch.lengths) if self._config.routing_replay == "r3" else None
            with self.policy.routers.watch(replay=replay) as routing:
                logp, _ = self.policy(batch, run_vision=run_vision)
            if self._config.routing_replay == "r2":
                self._routes.keep(rows, routing)
            for row, values in zip(rows, logp, strict=True):
                old[row] = values[: len(self._samples[row].response_ids)].clone()
        self._old_logp = old

    def imitate(self, samples: Sequence[Sample], rate: float) -> dict[str, float]:
        """One supervised step on ``samples``, where this is the only rank; see ``LearnerGroup.imitate``."""
        self.set_episode(samples)
        rows = range(len(samples))
        return self.update(rows, UpdateScope.of(samples, rows, rows), rate)

    def update(self, rows: Sequence[int], scope: UpdateScope, rate: float | None = None) -> dict[str, float]:
        """One optimizer step on the samples with the indices ``rows``: forward and backward per micro-batch, then step.

        Args:
            rate: the learning rate; by default that of the configuration, with its warm-up.

        Returns:
            The update's metrics over all ranks, with ``entropy`` (nats per token), ``grad_norm`` (before clipping),
            ``loss`` and ``learning_rate``; in float16 also those of ``optim_step``.

        Raises:
            LearnerError: the gradient is not finite, and no smaller loss scale would help; no weight is changed.
            MismatchError: engine and learner disagree by more than a threshold; no weight is changed.
        """
        balance = self._expert_load(rows) if self._config.router_aux_coef else None
        parts = [
            self.forward_backward(micro, scope, balance, run_vision=run_vision)
            for micro, run_vision in self._passes(rows)
        ]
        merged = ranks.sum_metrics(merge_metrics(*parts), self.policy.device)
        try:
            metrics = self._objective.numbers(merged) | load_metrics(merged)
        except MismatchError:
            self.optimizer.zero_grad(set_to_none=True)
            raise
        return metrics | self.optim_step(rate, loss_is_finite=math.isfinite(metrics["loss"]))

    def forward_backward(
        self,
        rows: Sequence[int],
        scope: UpdateScope,
        balance: tuple[torch.Tensor, torch.Tensor] | None = None,
        *,
        run_vision: bool = False,
    ) -> dict[str, torch.Tensor]:
        """Adds the gradient of one micro-batch. Its metrics add up over micro-batches and ranks.

        Args:
            rows: indices of samples; empty for a pass that only takes part in collectives: gradients of 0, no metrics.
            balance: load of each expert and number of tokens of the whole update; None for no balancing loss.
            run_vision: see ``Policy.forward``.
        """
        batch = self._collate(rows)
        reference_logp = None if self._reference is None else self._reference(batch, run_vision=run_vision)
        if not rows:
            (0.0 * self.policy(batch, run_vision=run_vision)[0].sum()).backward()
            return {}
        replay = self._routes.replay(rows, batch.lengths)
        with self.policy.routers.watch(replay=replay) as routing:
            logp, entropy = self.policy(batch, run_vision=run_vision)
            old_logp = self._old(rows, logp)
            loss, metrics = self._objective(logp, old_logp, batch, scope)
            added, added_metrics = self._objective.regularisers(logp, entropy, reference_logp, batch.mask, scope)
            loss = loss + added
            metrics |= added_metrics | {"loss": loss.detach()}
            if balance is not None and routing.experts:
                balancing = routing.balance_loss(*balance)
                metrics["router/balance_loss"] = balancing.detach()
                loss = loss + self._config.router_aux_coef * balancing
            self.loss_scale.scaled(loss).backward()
        return metrics | routing.metrics()

    def _old(self, rows: Sequence[int], logp: torch.Tensor) -> torch.Tensor:
        if self._old_logp is None:
            # The only update of the episode is on-policy: pi_old is pi_theta, and needs no second forward pass.
            return logp.detach()
        old_logp = torch.zeros_like(logp)
        for b, row in enumerate(rows):
            old_logp[b, : len(self._old_logp[row])] = self._old_logp[row]
        return old_logp

    def optim_step(self, rate: float | None = None, *, loss_is_finite: bool = True) -> dict[str, float]:
        """Clips gradients, steps, and clears them. Sharded gradients are sums over ranks already.

        Args:
            rate: see ``update``.
            loss_is_finite: if not, a smaller loss scale cannot make the gradient finite.

        Returns:
            ``grad_norm`` and ``learning_rate``; in float16 also ``loss_scale``, the one of this update, and
            ``skipped``: 1 if gradients overflowed (``grad_norm`` is then not finite), else 0. A skipped update changes
            no weight, is not counted, and halves the scale.

        Raises:
            LearnerError: as ``update``.
        """
        parameters = [p for p in self.policy.parameters() if p.requires_grad]
        for parameter in parameters:
            # Without an image the vision tower has no gradient on one rank, but zeros where another rank runs it. So
            # that a step does not depend on the number of ranks, a missing gradient counts as zeros.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.loss_scale.unscale(p.grad for p in parameters if p.grad is not None)
        norm = float(ranks.gathered(torch.nn.utils.clip_grad_norm_(parameters, self._config.grad_clip)))
        rate = learning_rate(self.updates, self._config) if rate is None else rate
        scale, finite = self.loss_scale.value, math.isfinite(norm)
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.updates += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_scale.adapt(finite=finite)
        if not finite and (scale == 1.0 or not loss_is_finite):
            raise LearnerError(
                f"the gradient norm of update {self.updates + 1} is {norm}; weights were not changed. "
                + self._objective.advice
                + (" float16 ends at 65,504: model.dtype=bfloat16 does not." if self.loss_scale.enabled else "")
            )
        scaling = {"loss_scale": scale, "skipped": float(not finite)} if self.loss_scale.enabled else {}
        return {"grad_norm": norm, "learning_rate": rate} | scaling

    def keep_state(self) -> None:
        """Copies this rank's part of the trained weights and of the optimizer into host memory, for ``roll_back``."""
        trained = [p for p in self.policy.parameters() if p.requires_grad]
        held = [*trained, *(value for p in trained for value in self.optimizer.state[p].values())]
        self._kept = [(tensor, ranks.local(tensor.detach()).to("cpu", copy=True)) for tensor in held]

    @torch.no_grad()
    def roll_back(self) -> None:
        """Goes back to what ``keep_state`` copied."""
        for tensor, kept in self._kept:
            ranks.local(tensor).copy_(kept)
        self._kept = []

    @torch.no_grad()
    def expert_load(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """How evenly prompts use the experts, as ``router/probe/...`` (``load_metrics``); empty for a dense model."""
        if not self.policy.routers.names:
            return {}
        parts = []
        for prompt in prompts:
            with self.policy.routers.watch() as routing:
                self.policy.prompt_logprobs(prompt)
            parts.append(routing.metrics())
        return load_metrics(merge_metrics(*parts), "router/probe/")

    @torch.no_grad()
    def _expert_load(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Load and tokens of an update over all ranks, computed before its first gradient; None for a dense model."""
        if not self.policy.routers.names:
            return None
        parts = [self.policy.routers.no_counts(self.policy.device)]
        for micro, run_vision in self._passes(rows):
            batch = self._collate(micro)
            if not micro:
                self.policy(batch, run_vision=run_vision)
                continue
            replay = self._routes.replay(micro, batch.lengths)
            with self.policy.routers.watch(replay=replay) as routing:
                self.policy(batch, run_vision=run_vision)
            parts.append(routing.metrics())
        return over_ranks(merge_metrics(*parts)[COUNTS], self.policy.routers.experts_per_token)

    def prompt_logprobs(self, prompts: Sequence[Prompt], *, rounded: bool = False) -> list[list[float]]:
        """[P-1] log-probabilities in nats of each prompt's own tokens but the first, to compare with an engine's.

        Args:
            rounded: with other last bits; how far these are from the others is what rounding does.
        """
        with other_last_bits(self.policy) if rounded else nullcontext():
            return [self.policy.prompt_logprobs(prompt) for prompt in prompts]

    def limit_first_update(self, mean_dlogp: float) -> None:
        """Engine and learner may differ by so many nats per token on average in the next update, before temperature."""
        assert isinstance(self._objective, Objective)
        self._objective.first_mean_dlogp = mean_dlogp / min(1.0, self.policy.temperature)

    def explain_weights(
        self, prompt: Prompt, engine: Sequence[float], published: str | None, previous: str | None
    ) -> Finding:
        """How an engine's weights differ from the learner's: published wrongly, not updated, or permuted.

        Args:
            engine: [P-1] log-probabilities that the engine computed for the prompt.
            published: folder of the weights published last; None where there is none.
            previous: folder of the weights published before; None where there is none.
        """
        if published is not None:
            own = self.policy.plain_state(self.policy.dtype, everywhere=True)  # rounded as what was published
            if wrong := diagnose.compare_weights(own, self._load(published)):
                return Finding(tuple(f"{what} in the published folder" for what in wrong))
        budget, causes, complete = Budget(self.policy.device), list[str](), True
        try:
            if previous is not None:
                old = lora.unmerged(self.policy.model, self._load(previous))
                groups = stale.explain(self.policy, prompt, engine, old, budget)
                causes = [f"{group} is still the previous version" for group in groups]
            causes = causes or diagnose.explain_experts(self.policy, prompt, engine, budget)
        except BudgetSpent:
            complete = False
        return Finding(tuple(causes), published is not None, budget.used, complete)

    def explain_responses(self, samples: Sequence[Sample], engine_prompts: Sequence[Sequence[int]]) -> Finding:
        """Why an engine with the same weights computed other log-probabilities of responses.

        Args:
            engine_prompts: the prompt ids that the engine got, per sample.
        """
        budget, cause, complete = Budget(self.policy.device), diagnose.explain_sampling(self.policy, samples), True
        try:
            cause = cause or diagnose.explain_prompt(self.policy, samples, engine_prompts, budget)
        except BudgetSpent:
            complete = False
        return Finding((cause,) if cause else (), passes=budget.used, complete=complete)

    def _load(self, folder: str) -> dict[str, torch.Tensor]:
        """The weights in a folder of the same model."""
        return Policy(folder, trust_remote_code=self.policy.trust_remote_code).model.state_dict()

    def export(self, folder: str | Path) -> None:
        """Writes the weights for the engines in transformers' format and the precision of the forward pass, all ranks
        together. Raises OSError."""
        with writing(folder):
            self.policy.save(folder, dtype=self.policy.dtype)

    def open_sender(self, build: Callable[[CheckpointWeights, int], Any]) -> None:
        """Connects this rank to the engines for ``sync.method`` nccl and ipc: keeps ``build(weights, rank)``."""
        self._sender = build(CheckpointWeights(self.policy.model, self.policy.dtype), ranks.rank())

    def send_weights(self) -> None:
        """Sends the weights to the engines, all ranks together."""
        self._sender.send_weights()

    def free_memory(self) -> None:
        """Returns unused GPU memory to the driver, for an engine on the same GPU. Does nothing without a GPU."""
        torch.cuda.empty_cache()

    def save(self, folder: str | Path) -> None:
        """Writes the whole state into ``folder``, all ranks together; after ``restore`` training is the same bit
        for bit. Raises OSError."""
        with writing(folder):
            checkpoint.save(Path(folder), self.policy, self.optimizer, self.loss_scale, self.updates)

    def restore(self, folder: str | Path) -> None:
        """Loads the state that ``save`` wrote, but not the weights, which the policy loads. Raises CheckpointError."""
        self.updates = checkpoint.restore(Path(folder), self.policy, self.optimizer, self.loss_scale)

    def _passes(self, rows: Sequence[int]) -> list[ranks.Pass]:
        return ranks.passes(self._split(rows), lambda micro: any(self._samples[row].images for row in micro))

    def _split(self, rows: Sequence[int]) -> list[list[int]]:
        if not self.policy.packs:
            return [[row] for row in rows]
        micros = micro_batches([self._samples[row] for row in rows], self._config.max_tokens_per_microbatch)
        return [[rows[i] for i in micro] for micro in micros]

    def _collate(self, rows: Sequence[int]) -> Batch:
        """The batch of the samples ``rows``; of a dummy sample of two tokens where there are none."""
        return collate([self._samples[row] for row in rows] or [_DUMMY]).to(self.policy.device)
