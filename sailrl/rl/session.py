"""The parts of an RL run as the loop sees them. ``session`` builds the real ones, unit tests others."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sailrl.algos.clip import ClipController
from sailrl.data.batch import Sample
from sailrl.data.processor import Processor
from sailrl.report.metrics import MetricsLog
from sailrl.report.traces import RolloutLog
from sailrl.rl import checkpoints
from sailrl.rl.checkpoints import RunState
from sailrl.rl.stop import Stop
from sailrl.rollout.collect import Collection, Collector
from sailrl.rollout.engine import Pool, Stage
from sailrl.sync.base import WeightSync
from sailrl.sync.probe import Probe
from sailrl.types import Prompt


class Learners(Protocol):
    """What the loop uses of the learner; ``learner.group.LearnerGroup`` runs all ranks in Ray actors."""

    def set_episode(self, samples: Sequence[Sample], updates: Sequence[Sequence[int]]) -> None:
        """Takes the samples of an episode, and the rows of each update that will be made on them."""

    def compute_old_logprobs(self) -> None:
        """Fixes pi_old for the episode."""

    def update(self, rows: Sequence[int], *, clip_low: float, clip_high: float) -> dict[str, float]:
        """One optimizer step on ``rows`` of the episode."""

    def prompt_logprobs(self, prompt: Prompt) -> list[float]:
        """[P-1] log-probabilities in nats of a prompt's own tokens but the first."""

    def expert_load(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """How evenly a set of prompts uses the experts; nothing for a dense model."""

    def explain_weights(
        self, prompt: Prompt, engine: Sequence[float], published: str | None, previous: str | None
    ) -> list[str]:
        """In what an engine's weights differ from the learner's, in words."""

    def explain_responses(self, samples: Sequence[Sample], engine_prompts: Sequence[Sequence[int]]) -> str | None:
        """Why an engine with the same weights gave responses other log-probabilities, or None."""

    def free_memory(self) -> None:
        """Gives back what it no longer uses of its GPUs."""

    def save(self, folder: str) -> None:
        """Writes the learner's part of a checkpoint."""


@dataclass(slots=True)
class Session:
    """Everything the loop works with."""

    state: RunState
    learners: Learners
    pool: Pool
    collector: Collector
    sync: WeightSync
    probe: Probe
    metrics: MetricsLog
    rollouts: RolloutLog
    clip: ClipController
    eval_prompts: list[Prompt]
    text_probe: list[Prompt]
    """Prompts without images on which the load of experts is watched: RL on images must not starve text."""
    processor: Processor
    score_metrics: Callable[[], dict[str, float]] = dict
    """What scoring has counted since the last call; see ``Scorer.metrics``."""
    stop: Stop = field(default_factory=Stop)
    """Says when the run was asked to end."""
    colocated: bool = False
    """Engines and learner share their GPUs. Engines then sleep from ``rest_engines`` to the next ``publish``, and
    are asleep when the session begins."""

    async def rest_engines(self) -> None:
        """Hands shared GPUs to the learner. The engines must have nothing in flight."""
        if self.colocated:
            await self.pool.sleep()

    async def wake_engines(self) -> None:
        """Hands shared GPUs back to the engines, which have the weights published last."""
        await self.wake("weights")
        await self.wake("kv_cache")

    async def wake(self, stage: Stage) -> None:
        """Gives the engines back the memory of one stage, where GPUs are shared."""
        if self.colocated:
            await to_thread(self.learners.free_memory)
            await self.pool.wake(stage)

    async def collect(self, prompts: int) -> Collection | None:
        """The groups of the next episode; None when the run is asked to end before.

        Of an episode that cannot be collected, what was sampled is logged first: it shows why.
        """
        try:
            return await self.stop.unless(self.collector.collect(prompts, self.state.version))
        except Exception:
            sampled = Collection(dropped=self.collector.unfinished())
            await to_thread(self.log_rollouts, self.state.episode + 1, sampled, [])
            raise

    def log_rollouts(self, number: int, episode: Collection, gains: Sequence[Sequence[float]]) -> None:
        """Writes every rollout of episode ``number``, dropped ones too."""
        where: dict[str, Any] = {"episode": number, "step": self.state.step, "version": self.state.version}
        for index, (group, gain) in enumerate(zip(episode.kept, gains, strict=True)):
            self.rollouts.log(group, index=index, advantages=gain, **where)
        for index, (group, reason) in enumerate(episode.dropped, start=len(episode.kept)):
            self.rollouts.log(group, index=index, dropped=reason, **where)

    async def checkpoint(self, run_dir: Path, keep: int, *, collector: dict[str, Any] | None = None) -> Path:
        """Saves the whole run, in a thread: what engines finish meanwhile is taken in.

        Args:
            collector: its state before an episode that was given up; its present one without.
        """
        self.state.collector = self.collector.state_dict() if collector is None else collector
        self.state.clip = self.clip.state_dict()

        def write(folder: Path) -> None:
            self.learners.save(str(folder))
            self.processor.save(folder / "model")

        def save() -> Path:
            self.state.metrics, self.state.rollouts = self.metrics.position(), self.rollouts.position()
            return checkpoints.save(run_dir, self.state, write, keep=keep)

        return await to_thread(save)
