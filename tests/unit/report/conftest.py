"""What the tests of the reports share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sailrl.report.metrics import RLVR_KEYS, MetricsLog
from sailrl.report.traces import RolloutLog
from sailrl.types import Completion, Group, Problem, Prompt, Rollout, Score


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def write_run(run_dir: Path, *, updates: int = 2, response: str = "\\boxed{2}", same_problem: bool = True) -> Path:
    """A run folder as training leaves it: one group of two rollouts (one right) per episode of one update."""
    metrics, rollouts = MetricsLog(run_dir), RolloutLog(run_dir, accuracy="boxed")
    metrics.log_eval(0, {"eval/accuracy": 0.08, "eval/response_tokens": 30.0})
    for step in range(1, updates + 1):
        line: dict[str, float | None] = dict.fromkeys(RLVR_KEYS, 0.5)
        del line["step"]
        metrics.log(step, {**line, "episode": step, "accuracy": 0.4 + step / 10, "time/step_s": 40.0})
        problem = Problem(prompt="What is 1+1?", answer="2", id="p0" if same_problem else f"p{step}")
        group = Group(
            Prompt(problem, token_ids=[1], engine_ids=[1]),
            [
                Rollout(
                    Completion([5], [-0.5], text, "stop", step - 1),
                    {"boxed": Score(value, reason=reason)},
                    reward=value,
                )
                for text, value, reason in ((response, 1.0, "exact"), ("no idea", 0.0, "no_box"))
            ],
        )
        dropped = "all_wrong" if step == 2 else None
        rollouts.log(group, episode=step, step=step - 1, version=step - 1, index=0, dropped=dropped)
    metrics.log_eval(updates, {"eval/accuracy": 0.5, "eval/response_tokens": 30.0})
    metrics.close()
    rollouts.close()
    return run_dir


@pytest.fixture
def make_run() -> Callable[..., Path]:
    return write_run
