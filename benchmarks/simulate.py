"""A discrete-event model of the pipeline: how long is a step with so many engines, learner ranks and so much staleness?

    python benchmarks/simulate.py runs/one                                  # calibrate, and predict the run itself
    python benchmarks/simulate.py runs/one --check runs/two                 # predict another run, print the error
    python benchmarks/simulate.py runs/one --engines 4 --staleness 1        # predict what was not run
    python benchmarks/simulate.py --curve                                   # 8 to 512 GPUs, bottleneck named

**The model.** An engine decodes all its responses in lockstep: one token each takes ``step_s + token_s * running``. A
group of responses starts on the engine with the fewest, under the admission rule of ``rollout.stream`` (which with
``max_staleness: 0`` is one wave per episode); older groups are dropped. The learner takes ``learn_token_s`` per
response token, shared by its ranks, then a publish stops every engine for ``sync_s``, then ``other_s`` pass.

**Calibration** needs one synchronous run without dynamic sampling. Per episode its folder has the time of generation
and, in rollouts.jsonl, the lengths: ``generate_s = step_s * longest + token_s * tokens`` by least squares over the
episodes (with lengths all alike the two are not told apart, and need not be). All else are medians. Lengths of
predicted runs are drawn from the calibrated one's groups.

**Shared cores.** On a machine without GPUs engines and learner ranks share its cores, one each as long as they suffice,
and so does what goes on around an engine (requests, decoding, scoring). ``--cores`` says how many there are;
``--around`` how much of one an engine at work takes besides: in the calibrated run, processor seconds of the processes
``sailrl`` and ``ray::RolloutWorker``, without the thread in which vLLM computes, over seconds of generating. How much
faster a rank is with more threads is not modelled, so runs to be compared have the same ``learner.threads``. 0 cores:
everybody has a device of his own.

**The curve** is not measured: there were no GPUs. It takes an 8B model in bfloat16 on H100s from data sheets (``H100``
below) and only its shape should be trusted: where each bottleneck takes over.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml

SKIPPED_EPISODES = 2
"""The first ones of a run are warm-up."""


@dataclass(frozen=True)
class Costs:
    """Seconds."""

    step_s: float
    """One decoding step of an engine, however few responses it has."""
    token_s: float
    """What each response adds to it."""
    learn_token_s: float
    """Forward and backward per response token on one rank, its share of the prompt included."""
    learn_s: float
    """What an episode's learning takes, however many ranks there are."""
    sync_s: float
    """A publish, during which engines stand still."""
    other_s: float


@dataclass(frozen=True)
class Shape:
    """The run."""

    engines: int
    ranks: int
    prompts: int
    """Groups per episode."""
    staleness: int = 0
    max_concurrent: int = 256
    """Responses per engine."""
    cores: int = 0
    """Of the one machine that all share; 0 is a device for each."""
    around: float = 0.0
    """Cores that go into all else while an engine generates."""


@dataclass
class Engine:
    """Responses that advance in lockstep. ``ends`` holds ``(step at which it is done, group)``."""

    steps: float = 0.0
    since: float = 0.0
    ends: list[tuple[float, int]] = field(default_factory=list)
    busy_s: float = 0.0
    held: float = 0.0
    """Response-seconds, for the mean batch."""


@dataclass
class Outcome:
    """Of the simulated episodes: mean step without the first, and shares of the whole time."""

    step_s: float
    waiting: float
    """Share of the time in which the learner waits for responses."""
    learning: float
    syncing: float
    tail: float
    """Share of the engines' time that goes into the fixed cost of steps: few responses left."""
    dropped: float
    """Stale groups per episode."""

    def bottleneck(self) -> str:
        if self.syncing > max(self.learning, self.waiting):
            return "weight sync"
        if self.learning >= self.waiting:
            return "learning"
        return "longest response" if self.tail > 0.5 else "generating"


class Pipeline:
    """One run."""

    def __init__(self, costs: Costs, shape: Shape, groups: Sequence[Sequence[int]], seed: int = 0) -> None:
        self.costs, self.shape, self.groups = costs, shape, groups
        self.draw = random.Random(seed)
        self.engines = [Engine() for _ in range(shape.engines)]
        self.now, self.version, self.room = 0.0, 0, 0
        self.learning = self.paused = False
        self.left: dict[int, int] = {}  # group -> responses still running
        self.began: dict[int, int] = {}  # group -> version
        self.tokens: dict[int, int] = {}
        self.accepted: list[int] = []
        self.tickets = 0

    def run(self, episodes: int) -> Outcome:
        starts, shares, dropped = [0.0], defaultdict[str, float](float), 0
        for _ in range(episodes):
            began = self.now
            self.room = (self.shape.staleness + 1) * self.shape.prompts
            while True:
                fresh = [g for g in self.accepted if self.version - self.began[g] <= self.shape.staleness]
                dropped += len(self.accepted) - len(fresh)
                self.accepted = fresh
                self._start()
                if len(self.accepted) >= self.shape.prompts:
                    break
                self._until(None)
            shares["waiting"] += self.now - began
            oldest = sorted(self.accepted)
            used, self.accepted = oldest[: self.shape.prompts], oldest[self.shape.prompts :]
            self.room = self.shape.staleness * self.shape.prompts
            work = self.costs.learn_s + self.costs.learn_token_s * sum(self.tokens[g] for g in used) / self.shape.ranks
            shares["learning"] += self._learn(work)
            self.paused = True
            self._until(self.now + self.costs.sync_s)
            self.paused = False
            self.version += 1
            shares["syncing"] += self.costs.sync_s
            self._until(self.now + self.costs.other_s)
            starts.append(self.now)
        steps = np.diff(starts)[min(SKIPPED_EPISODES, episodes - 1) :]
        total = self.now
        busy, held = sum(e.busy_s for e in self.engines), sum(e.held for e in self.engines)
        batch = held / busy if busy else 0.0
        fixed = self.costs.step_s / (self.costs.step_s + self.costs.token_s * batch)
        waiting, learning, syncing = (shares[k] / total for k in ("waiting", "learning", "syncing"))
        return Outcome(float(np.mean(steps)), waiting, learning, syncing, fixed, dropped / episodes)

    def _speed(self) -> float:
        """Of every engine and every rank; 1 while there is a core for each that works."""
        if not self.shape.cores:
            return 1.0
        engines = 0 if self.paused else sum(bool(e.ends) for e in self.engines)
        asked = engines * (1 + self.shape.around) + self.shape.ranks * self.learning
        return min(1.0, self.shape.cores / max(1, asked))

    def _start(self) -> None:
        for _ in range(self.room - len(self.left) - len(self.accepted)):
            engine = min(self.engines, key=lambda e: len(e.ends))
            lengths = self.draw.choice(self.groups)
            if len(engine.ends) + len(lengths) > self.shape.max_concurrent and engine.ends:
                return
            self.tickets += 1
            self.left[self.tickets], self.tokens[self.tickets] = len(lengths), sum(lengths)
            self.began[self.tickets] = self.version
            for length in lengths:
                heapq.heappush(engine.ends, (engine.steps + length, self.tickets))

    def _learn(self, work: float) -> float:
        """Advances until the learner has done ``work`` seconds of it; returns how long that took."""
        began, self.learning = self.now, True
        while work > 1e-12:
            before, speed = self.now, self._speed()
            self._until(self.now + work / speed, once=True)
            work -= (self.now - before) * speed
        self.learning = False
        return self.now - began

    def _until(self, when: float | None, *, once: bool = False) -> None:
        """Lets engines work until ``when`` (None: until a response ends; ``once``: whichever comes first)."""
        while True:
            speed, ending = self._speed(), None
            if not self.paused:
                running = [(i, e) for i, e in enumerate(self.engines) if e.ends]
                waits = [((e.ends[0][0] - e.steps) * self._step_s(e) / speed, i) for i, e in running]
                if waits and (when is None or self.now + min(waits)[0] <= when):
                    ending = min(waits)
            span = ending[0] if ending else (when or self.now) - self.now
            if not self.paused:
                for engine in self.engines:
                    if engine.ends:
                        engine.steps += span * speed / self._step_s(engine)
                        engine.busy_s += span
                        engine.held += span * len(engine.ends)
            self.now += span
            if ending is None:
                return
            engine = self.engines[ending[1]]
            engine.steps = engine.ends[0][0]
            while engine.ends and engine.ends[0][0] <= engine.steps + 1e-9:
                _, group = heapq.heappop(engine.ends)
                self.left[group] -= 1
                if not self.left[group]:
                    del self.left[group]
                    self.accepted.append(group)
            self._start()
            if when is None or once:
                return

    def _step_s(self, engine: Engine) -> float:
        return self.costs.step_s + self.costs.token_s * len(engine.ends)


@dataclass(frozen=True)
class Measured:
    """A run folder."""

    costs: Costs
    shape: Shape
    groups: list[list[int]]
    step_s: float


def measure(folder: Path, cores: int, around: float) -> Measured:
    """Reads a run."""
    config = yaml.safe_load((folder / "resolved.yaml").read_text(encoding="utf-8"))
    rollout, batch = config["rollout"], config["batch"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    updates = [line for line in lines if "grad_norm" in line and line["episode"] > SKIPPED_EPISODES]
    lengths: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for text in (folder / "rollouts.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        lengths[row["episode"]][row["group"]].append(row["response_tokens"])
    groups = [group for episode in lengths.values() for group in episode.values()]
    tokens = {episode: sum(map(sum, of.values())) for episode, of in lengths.items()}
    longest = {episode: max(map(max, of.values())) for episode, of in lengths.items()}
    engines, ranks = rollout["workers"], config["learner"]["ranks"]
    share = max(1.0, engines / cores) if cores else 1.0
    work = [(longest[u["episode"]] * share, tokens[u["episode"]] * share / engines) for u in updates]
    step_s, token_s = _fit(np.array([(*row, u["time/generate_s"]) for row, u in zip(work, updates, strict=True)]))
    phases = ("generate", "learn", "sync", "other")
    median = {p: statistics.median(u[f"time/{p}_s"] for u in updates) for p in phases}
    learn = statistics.median(u["time/learn_s"] / tokens[u["episode"]] for u in updates) * ranks
    costs = Costs(step_s, token_s, learn, 0.0, median["sync"], median["other"])
    shape = Shape(
        engines,
        ranks,
        batch["rollouts_per_episode"] // batch["group_size"],
        rollout["max_staleness"],
        rollout["engine"]["max_concurrent"],
        cores,
        around,
    )
    return Measured(costs, shape, groups, statistics.fmean(sum(u[f"time/{p}_s"] for p in phases) for u in updates))


def _fit(rows: np.ndarray) -> tuple[float, float]:
    """Least squares for ``x * rows[:, :2] = rows[:, 2]`` without negative costs."""
    both, *_ = np.linalg.lstsq(rows[:, :2], rows[:, 2], rcond=None)
    if (both >= 0).all():
        return float(both[0]), float(both[1])
    alone = [float(column @ rows[:, 2] / (column @ column)) for column in rows[:, :2].T]
    wrong = [float(np.square(a * c - rows[:, 2]).sum()) for a, c in zip(alone, rows[:, :2].T, strict=True)]
    return (alone[0], 0.0) if wrong[0] < wrong[1] else (0.0, alone[1])


PARAMETERS, FLOPS, MEMORY_BYTES_S, LINK_BYTES_S = 8e9, 990e12, 3.35e12, 50e9
H100 = Costs(
    # The weights are read once per step (2 bytes each), at 70% of the memory's speed, and 2 ms go into launches.
    step_s=2 * PARAMETERS / (0.7 * MEMORY_BYTES_S) + 0.002,
    # Per response: 2 operations per weight at 50% of the peak, and its KV cache (about 3,000 tokens of 147 kB) read.
    token_s=2 * PARAMETERS / (0.5 * FLOPS) + 3000 * 147e3 / (0.7 * MEMORY_BYTES_S),
    # 6 operations per weight, a third more for recomputed activations, 40% of the peak; two passes; the prompt's tokens
    # (about as many as a response's) are gone through once for 8 responses.
    learn_token_s=2 * (1 + 1 / 8) * 8 * PARAMETERS / (0.4 * FLOPS),
    # 8 updates, in each of which gradients cross the slowest link once and parameters twice (4 and 2 bytes).
    learn_s=8 * (4 + 2 * 2) * PARAMETERS / LINK_BYTES_S / 8,
    sync_s=2 * PARAMETERS / LINK_BYTES_S + 1.0,
    other_s=0.5,
)


def curve(seed: int = 0) -> None:
    """Step time of the 8B recipe (256 prompts x 8) from 8 to 512 GPUs, at the best split of each size."""
    draw = random.Random(seed)

    def length() -> int:
        return min(4096, max(32, round(draw.lognormvariate(7.0, 0.8))))  # exp(7.0) = 1,100 tokens

    groups = [[length() for _ in range(8)] for _ in range(2048)]
    print(f"{'GPUs':>5} {'staleness':>10} {'engines':>8} {'ranks':>6} {'step s':>8} {'speed-up':>9}  bottleneck")
    first: dict[int, float] = {}
    split: dict[int, range] = {}
    for gpus in (8, 16, 32, 64, 128, 256, 512):
        for staleness in (0, 1, 4):
            best: tuple[float, Shape, Outcome] | None = None
            around = split.get(staleness, range(1, 8))  # eighths; the best ones move slowly with the size
            for ranks in (gpus // 8 * n for n in around if 0 < n < 8):
                shape = Shape(gpus - ranks, ranks, 256, staleness, max_concurrent=256)
                outcome = Pipeline(H100, shape, groups).run(5)
                if best is None or outcome.step_s < best[0]:
                    best = (outcome.step_s, shape, outcome)
            assert best is not None
            step_s, shape, outcome = best
            eighths = shape.ranks * 8 // gpus
            split[staleness] = range(eighths - 1, eighths + 2)
            first.setdefault(staleness, step_s)
            print(
                f"{gpus:5d} {staleness:10d} {shape.engines:8d} {shape.ranks:6d} {step_s:8.1f} "
                f"{first[staleness] / step_s:9.1f}  {outcome.bottleneck()}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a synchronous run without dynamic sampling")
    parser.add_argument("--check", type=Path, action="append", default=[], help="another run, to be predicted")
    parser.add_argument("--engines", type=int)
    parser.add_argument("--ranks", type=int)
    parser.add_argument("--staleness", type=int)
    parser.add_argument("--cores", type=int, default=0, help="of a machine that engines and learner share")
    parser.add_argument("--around", type=float, default=0.0, help="cores that go into all else per engine at work")
    parser.add_argument("--curve", action="store_true")
    given = parser.parse_args()
    if given.curve:
        curve()
    if given.run is None:
        return
    base = measure(given.run, given.cores, given.around)
    print(base.costs)
    asked = {"engines": given.engines, "ranks": given.ranks, "staleness": given.staleness}
    wanted = replace(base.shape, **{name: value for name, value in asked.items() if value is not None})
    if wanted != base.shape:
        outcome = Pipeline(base.costs, wanted, base.groups).run(30)
        print(f"{wanted}: {outcome.step_s:.2f} s a step; bottleneck: {outcome.bottleneck()}")
    for folder in [given.run, *given.check]:
        other = measure(folder, given.cores, given.around)
        outcome = Pipeline(base.costs, other.shape, base.groups).run(30)
        error = outcome.step_s / other.step_s - 1
        shape = f"{other.shape.engines} engine(s), staleness {other.shape.staleness}"
        print(
            f"{folder}, {shape}: predicted {outcome.step_s:.2f} s a step, measured {other.step_s:.2f} s, {error:+.0%}"
        )


if __name__ == "__main__":
    main()
