"""The loop of supervised stages: which rows a step has, at which rate, and the learner that RL uses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Protocol

from sailrl.algos.adalrs import AdaLrs
from sailrl.config.sft import SftTraining
from sailrl.data.batch import Sample
from sailrl.data.sampler import permutation


class Imitator(Protocol):
    """A learner in this process, or all ranks of one."""

    def imitate(self, samples: Sequence[Sample], rate: float) -> dict[str, float]: ...

    def keep_state(self) -> None: ...

    def roll_back(self) -> None: ...


def supervised_steps(
    learner: Imitator,
    samples: Sequence[Sample],
    training: SftTraining,
    *,
    seed: int,
    done: int = 0,
    search: AdaLrs | None = None,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Trains on ``samples``; after each step yields its number, the first is 1, and its metrics.

    Args:
        done: steps of the stage that were made before.
        search: watches the loss of each step, and changes its factor of the rate.

    Raises:
        LearnerError: a gradient is not finite; nothing was learned from that step.
    """
    total = count_steps(training, len(samples))
    batches = rows_by_step(len(samples), training.rows_per_step, seed, done)
    for step, rows in zip(range(done, total), batches, strict=False):
        chosen = [samples[row] for row in rows]
        rate = scheduled_rate(step, total, training) * (search.factor if search else 1.0)
        metrics = learner.imitate(chosen, rate)
        match search.observe(metrics["nll"]) if search else "go_on":
            case "save":
                learner.keep_state()
            case "roll_back":
                learner.roll_back()
        yield step + 1, metrics | {"tokens": float(sum(len(sample.response_ids) for sample in chosen))}


def count_steps(training: SftTraining, rows: int) -> int:
    """Optimizer steps of a stage."""
    return training.steps or training.epochs * math.ceil(rows / training.rows_per_step)


def rows_by_step(rows: int, rows_per_step: int, seed: int, first: int) -> Iterator[list[int]]:
    """Endless: the rows of step ``first`` (0 is the first of a stage) and of all after it. Every epoch has its own
    order; its last step has the rows that are left."""
    starts = range(0, rows, rows_per_step)
    epoch, place = divmod(first, len(starts))
    for number in itertools.count(epoch):
        order = permutation(rows, seed, number)
        for start in starts[place:]:
            yield order[start : start + rows_per_step]
        place = 0


def scheduled_rate(step: int, steps: int, training: SftTraining) -> float:
    """The learning rate of a step out of ``steps``, 0 is the first: a linear rise from 0 over the warm-up, then
    constant, or along half a cosine to 0."""
    warm_up = training.warmup_steps
    if step < warm_up:
        return training.learning_rate * step / warm_up
    if training.schedule == "constant":
        return training.learning_rate
    return training.learning_rate * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))) / 2


def new_search(training: SftTraining, steps: int) -> AdaLrs | None:
    """The search of a stage of ``steps`` steps at its beginning; None where there is none."""
    if (given := training.lr_search) is None:
        return None
    return AdaLrs(
        window=given.window_steps,
        first=int(given.first_share * steps),
        last=int(given.last_share * steps),
        **given.model_dump(include={"margin", "up", "down", "decay"}),
    )
