"""A whole RL run in one process: the loop's parts around the tiny model, as ``rl.build`` builds the real ones."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from sailrl.config.schema import RlvrConfig
from sailrl.data.processor import Processor
from sailrl.demo.additions import rows
from sailrl.learner.learner import Learner
from sailrl.learner.model import Policy
from sailrl.learner.objective import Objective
from sailrl.learner.reference import ReferencePolicy
from sailrl.plan.batch import batch_plan
from sailrl.report.metrics import MetricsLog
from sailrl.report.progress import PlainProgress
from sailrl.report.traces import RolloutLog
from sailrl.rl import checkpoints
from sailrl.rl.build import build_collector
from sailrl.rl.checkpoints import RunState
from sailrl.rl.episode import clip_controller
from sailrl.rl.loop import train
from sailrl.rl.session import Session
from sailrl.rollout.collect import ScoreFn
from sailrl.rollout.engine import Sampling
from sailrl.sync.disk import DiskSync
from sailrl.sync.probe import Probe
from sailrl.types import Completion, Problem, Prompt, Rollout, Score
from tests.fakes.local import LocalEngine, LocalLearners, OnePool


def make_config(**sections: Any) -> RlvrConfig:
    """A run of a few episodes on four additions at a time; ``sections`` extend whole sections or replace a value."""
    config: dict[str, Any] = {
        "kind": "rlvr",
        "run": {"deterministic": True},
        "model": {"path": "unused", "dtype": "float32"},
        "data": {"train": {"path": "unused.jsonl"}, "max_prompt_tokens": 60},
        "rewards": {"parts": {"even": {"use": "unused:unused", "weight": 1.0}}},
        "batch": {
            "group_size": 4,
            "rollouts_per_episode": 16,
            "rollouts_per_update": 8,
            "passes_per_episode": 2,
            "episodes": 3,
        },
        "rollout": {"max_response_tokens": 4},
        "learner": {"learning_rate": 1e-2, "max_tokens_per_microbatch": 128},
        "checkpoint": {"every_episodes": 2, "keep": 2},
        "eval": {"every_episodes": 2, "temperature": 1.0},
    }
    for name, section in sections.items():
        config[name] = config.get(name, {}) | section if isinstance(section, dict) else section
    return RlvrConfig.model_validate(config)


async def even(prompt: Prompt, completion: Completion) -> Rollout:
    """Right when the first token's id is even: half of all responses of an untrained model, and soon learned."""
    value = float(completion.token_ids[0] % 2 == 0)
    return Rollout(completion, {"even": Score(value)}, value)


def make_prompts(folder: Path, count: int, seed: int) -> list[Prompt]:
    """Additions, as the demo asks them."""
    processor = Processor(folder)
    prompts = []
    for row in rows(count, seed):
        problem = Problem(prompt=row["prompt"], answer=row["answer"], id=row["id"])
        ids = processor.encode(processor.chat.render([{"role": "user", "content": row["prompt"]}], row["id"]))
        prompts.append(Prompt(problem, ids, ids))
    return prompts


class LocalRun:
    """One start of a run on ``run_dir``: fresh, or resumed from its last checkpoint."""

    def __init__(
        self, config: RlvrConfig, run_dir: Path, model: Path, *, score: ScoreFn = even, eval_prompts: int = 3
    ) -> None:
        checkpoint = checkpoints.latest(run_dir)
        state = checkpoints.load(checkpoint) if checkpoint else RunState()
        weights = checkpoint / "model" if checkpoint else model
        self.config, self.run_dir = config, run_dir
        self.output = io.StringIO()
        self.pool = OnePool(LocalEngine(weights))
        processor = Processor(weights)
        policy = Policy(
            str(model if config.model.lora else weights),
            temperature=config.rollout.temperature,
            banned_ids=processor.banned_ids,
            adapter=config.model.lora,
        )
        learner = Learner(
            policy,
            Objective(config.algorithm, config.mismatch, max_response_tokens=4),
            config.learner,
            ReferencePolicy(policy, None if config.model.lora else Policy(str(model)))
            if config.algorithm.kl_coef
            else None,
        )
        self.learners = LocalLearners(learner, takes_all=config.algorithm.needs_every_response)
        prompts = make_prompts(model, 12, seed=1)
        sampling = Sampling(
            samples=config.batch.group_size,
            temperature=config.rollout.temperature,
            max_tokens=config.rollout.max_response_tokens,
            banned_ids=processor.banned_ids,
        )
        collector = build_collector(config, prompts, self.pool, score, sampling)
        clip = clip_controller(config.algorithm, state.clip)
        if checkpoint:
            learner.restore(checkpoint)
            collector.load_state_dict(state.collector)
        self.session = Session(
            state=state,
            learners=self.learners,
            pool=self.pool,
            collector=collector,
            sync=DiskSync(self.learners, self.pool, timeout_s=10),
            probe=Probe(
                self.learners,
                self.pool,
                prompts[:2],
                dtype=config.model.dtype,
                tolerance=config.sync.probe_tolerance,
            ),
            metrics=MetricsLog(run_dir, resume_at=state.metrics or None),
            rollouts=RolloutLog(run_dir, accuracy=config.rewards.accuracy_part, resume_at=state.rollouts or None),
            clip=clip,
            eval_prompts=make_prompts(model, eval_prompts, seed=2),
            text_probe=[],
            processor=processor,
            say=lambda text: print(text, file=self.output),
            colocated=config.placement == "colocated",
        )

    async def run(self, training: Coroutine[Any, Any, None]) -> None:
        """Runs the loop; a test may do so under other conditions."""
        await training

    def train(self) -> Self:
        """Runs the loop to its end and closes everything."""
        progress = PlainProgress("local", 0, console=Console(file=self.output, width=200))
        try:
            plan = batch_plan(self.config)
            asyncio.run(self.run(train(self.config, plan, self.session, self.run_dir, progress)))
        finally:
            self.session.sync.close()
            self.session.metrics.close()
            self.session.rollouts.close()
        return self
