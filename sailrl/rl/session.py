"""The parts of an RL run that the loop uses. ``build`` makes the real ones, unit tests make fakes."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sailrl.algos.clip import ClipController
from sailrl.data.batch import Sample
from sailrl.data.processor import Processor
from sailrl.errors import CheckpointError
from sailrl.learner.checkpoint import missing
from sailrl.learner.diagnose import Finding
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
    """The learner as the loop uses it; ``learner.group.LearnerGroup`` runs all ranks in Ray actors."""

    def set_episode(self, samples: Sequence[Sample], updates: Sequence[Sequence[int]]) -> None:
        """Sets the samples of an episode, and the indices of the samples of each update."""

    def compute_old_logprobs(self) -> None:
        """Computes pi_old for the samples of the episode."""

    def update(self, rows: Sequence[int], *, clip_low: float, clip_high: float) -> dict[str, float]:
        """One optimizer step on the samples with the indices ``rows``; returns the update's metrics."""

    def prompt_logprobs(self, prompts: Sequence[Prompt], *, rounded: bool = False) -> list[list[float]]:
        """Per prompt [P-1] log-probabilities in nats of its own tokens but the first; ``rounded``: see Learner."""

    def limit_first_update(self, mean_dlogp: float) -> None:
        """Limits the mean difference of engine and learner in the next update, in nats."""

    def expert_load(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """How evenly prompts use the experts, as ``router/probe/...``; empty for a dense model."""

    def explain_weights(
        self, prompt: Prompt, engine: Sequence[float], published: str | None, previous: str | None
    ) -> Finding:
        """How an engine's weights differ from the learner's."""

    def explain_responses(self, samples: Sequence[Sample], engine_prompts: Sequence[Sequence[int]]) -> Finding:
        """Why an engine with the same weights computed other log-probabilities of responses."""

    def free_memory(self) -> None:
        """Returns unused GPU memory to the driver."""

    def save(self, folder: str) -> None:
        """Writes the learner's part of a checkpoint."""


@dataclass(slots=True)
class Session:
    """All parts of a run, for the loop."""

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
    """Prompts without images on which the load of experts is measured: RL on images must not unbalance it for text."""
    processor: Processor
    say: Callable[[str], None]
    """Tells the user something in one line."""
    score_metrics: Callable[[], dict[str, float]] = dict
    """Counts of scoring since the last call; see ``Scorer.metrics``."""
    stop: Stop = field(default_factory=Stop)
    """Whether a signal has asked the run to end."""
    colocated: bool = False
    """Engines and learner share their GPUs. Engines then sleep from ``rest_engines`` to the next ``publish``, and also
    before the first one."""

    async def rest_engines(self) -> None:
        """Lets engines on shared GPUs sleep. They must have no request in flight."""
        if self.colocated:
            await self.pool.sleep()

    async def wake_engines(self) -> None:
        """Wakes engines on shared GPUs; they have the weights published last."""
        await self.wake("weights")
        await self.wake("kv_cache")

    async def wake(self, stage: Stage) -> None:
        """Wakes engines on shared GPUs by one stage, after the learner has freed its memory."""
        if self.colocated:
            await to_thread(self.learners.free_memory)
            await self.pool.wake(stage)

    async def collect(self, prompts: int) -> Collection | None:
        """The groups of the next episode; None when the run is asked to end before it is complete.

        When an episode cannot be collected, the sampled groups are logged before the error is raised: they show why.
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
        """Saves the whole run in a thread, so that the event loop continues to receive results. Returns the folder.

        Args:
            collector: the collector's state to save, from before an episode that was cancelled; by default its current
                one.
        """
        self.state.collector = self.collector.state_dict() if collector is None else collector
        self.state.clip = self.clip.state_dict()

        def write(folder: Path) -> None:
            self.learners.save(str(folder))
            if unseen := missing(folder):
                raise CheckpointError(
                    f"the learner wrote {unseen[0]} to {folder.absolute()} on its machine, and this one does not see "
                    "it there. Set run.dir to a folder on a disk that all machines share, and run again to resume."
                )
            self.processor.save(folder / "model")

        def save() -> Path:
            self.state.metrics, self.state.rollouts = self.metrics.position(), self.rollouts.position()
            return checkpoints.save(run_dir, self.state, write, keep=keep)

        return await to_thread(save)
