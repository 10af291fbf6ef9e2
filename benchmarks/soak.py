"""A run that is hurt all the time: does it end whole?

    python benchmarks/soak.py                 # 30 minutes
    python benchmarks/soak.py --minutes 5 --kill-every 30

The tiny text model learns with two rollout workers and a judge on a real HTTP server that answers every fifth call with
an error. Every ``--kill-every`` seconds a random rollout worker gets SIGKILL, half-way the learner does, and at the end
the run gets SIGTERM, which it must answer with a checkpoint and exit code 0. Nothing is killed while a learner's death
is being made good.

Then the run folder is audited: every episode complete, no rollout lost, none twice. Dynamic sampling is off and the
sampler draws every problem once before it draws one again, so a lost or repeated group shows in how often each problem
was asked. Memory is read every five seconds; that of the run's own process, which lives through everything, must be
flat: goal, at most 10% more in the last fifth of the time than in the second. The last line is that ratio. Exit code 1
when the audit finds something or, from five minutes on, when memory grew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.fakes.judge_server import Action, Refuse, Say, judge_server  # noqa: E402

GOAL = 1.10
PROBLEMS, GROUP, ROLLOUTS, UPDATES = 256, 8, 64, 2
FLAT_FROM_MINUTES = 5
PATIENCE_S = 900.0
"""Longest wait for a start or a recovery on a crowded machine."""
WORKER, LEARNER = "ray::RolloutWorker", "ray::LearnerActor"


def overrides(folder: Path, judge: str) -> list[str]:
    """What is changed in configs/rlvr_tiny_text.yaml."""
    args = {"base_url": judge, "model": "soak", "backoff_s": 0.05, "max_retries": 6, "timeout_s": 20.0}
    return [
        f"run.dir={folder}",
        "run.deterministic=false",
        "warm_start.steps=60",
        f"data.train.limit={PROBLEMS}",
        "data.eval.limit=32",
        "rewards.deadline_s=60",
        "rewards.parts.boxed={use: 'rewards.boxed:BoxedAnswer', weight: 0.5, args: {deadline_s: 60}}",
        f"rewards.parts.judge={{use: 'rewards.judge:Judge', weight: 0.4, args: {json.dumps(args)}}}",
        "rollout.workers=2",
        "rollout.max_restarts=100",
        "rollout.dynamic_sampling.enabled=false",
        f"batch.group_size={GROUP}",
        f"batch.rollouts_per_episode={ROLLOUTS}",
        f"batch.rollouts_per_update={ROLLOUTS // UPDATES}",
        "batch.passes_per_episode=1",
        "batch.episodes=1000000",
        "learner.learning_rate=1e-5",
        "checkpoint.every_episodes=5",
        "eval.every_episodes=1000000",
    ]


def answer(body: dict[str, Any], number: int) -> Action:
    """The judge: an error to every fifth call, and a verdict to the others."""
    if number % 5 == 4:
        return Refuse(500, "soaked")
    return Say(json.dumps({"is_correct": number % 2 == 0}), after_s=0.005)


def read(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a log."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def audit(rollouts: Sequence[dict[str, Any]], metrics: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong with a run's logs, in words. Nothing when episodes are complete and no rollout is lost or twice."""
    wrong = []
    keys = Counter((row["episode"], row["group"], row["rollout"]) for row in rollouts)
    wrong += [f"episode {e}, group {g}, rollout {r} is there {n} times" for (e, g, r), n in keys.items() if n > 1]
    episodes = sorted({row["episode"] for row in rollouts})
    if episodes != list(range(1, len(episodes) + 1)):
        wrong.append(f"episodes are {episodes}")
    expected = {(group, rollout) for group in range(ROLLOUTS // GROUP) for rollout in range(GROUP)}
    for episode in episodes:
        lost = expected - {(g, r) for e, g, r in keys if e == episode}
        wrong += [f"episode {episode} lacks group {g}, rollout {r}" for g, r in sorted(lost)]
    asked = Counter(row["id"] for row in rollouts if row["rollout"] == 0)
    least = min(asked.values()) if len(asked) == PROBLEMS else 0
    if asked and max(asked.values()) - least > 1:
        wrong.append(f"a problem was asked {max(asked.values())} times and another {least} times")
    steps = [line["step"] for line in metrics if "reward/mean" in line]
    if steps != list(range(1, UPDATES * len(episodes) + 1)):
        wrong.append(f"{len(episodes)} episodes, but updates {steps[:3]} ... {steps[-3:]}, {len(steps)} of them")
    return wrong


class Patient:
    """The run, and what is done to it."""

    def __init__(self, folder: Path, judge: str) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        program = "from sailrl.cli import main; main()"
        config = str(ROOT / "configs" / "rlvr_tiny_text.yaml")
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, "run", config, *overrides(folder, judge)],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.memory: dict[str, list[tuple[float, float]]] = defaultdict(list)  # name -> [(time, MB)]
        self._measured = 0.0

    def output(self) -> str:
        """All that the run has printed."""
        return self.log.read_text(encoding="utf-8")

    def said(self, what: str) -> int:
        """How often the run has said something."""
        return self.output().count(what)

    def updates(self) -> int:
        """Of the last update written down."""
        return max((line["step"] for line in read(self.folder / "metrics.jsonl")), default=0)

    def look(self) -> None:
        """Lets half a second pass, and measures memory every five."""
        time.sleep(0.5)
        if self.process.poll() is not None:
            raise SystemExit(f"the run ended with code {self.process.returncode}:\n{self.output()}")
        if time.monotonic() - self._measured > 5:
            self._measured = time.monotonic()
            for name, process in [
                ("run", psutil.Process(self.process.pid)),
                *self.actors(WORKER),
                *self.actors(LEARNER),
            ]:
                try:
                    self.memory[name].append((self._measured, process.memory_info().rss / 2**20))
                except psutil.NoSuchProcess:
                    continue

    def actors(self, name: str) -> list[tuple[str, psutil.Process]]:
        """The run's processes whose names begin so."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                found += [(name, process)] if process.name().startswith(name) else []
            except psutil.NoSuchProcess:
                continue
        return found

    def kill(self, name: str) -> None:
        """SIGKILL to one process of that name, if there is one now."""
        found = self.actors(name)
        lost = self.said(" is lost: ")
        if found:
            os.kill(random.choice(found)[1].pid, signal.SIGKILL)
            print(f"[{time.strftime('%T')}] killed {name}, after {self.updates()} updates", flush=True)
            if name == WORKER:
                self.until("the run's notice of it", lambda: self.said(" is lost: ") > lost)

    def until(self, what: str, true: Any) -> None:
        """Waits for it."""
        late = time.monotonic() + PATIENCE_S
        while not true():
            if time.monotonic() > late:
                raise SystemExit(f"not within {PATIENCE_S:g} s: {what}\n{self.output()}")
            self.look()

    def checkpoints(self) -> list[Path]:
        """Whole ones, the newest last."""
        return sorted((self.folder / "checkpoints").glob("episode-*"))

    def settled(self) -> bool:
        """Every worker that was lost is back, or was started again with the whole run."""
        text = self.output()
        recent = text[max(text.rfind("starting again from the last checkpoint"), 0) :]
        return recent.count(" is lost: ") == recent.count("is back at work")

    def goes_on(self) -> bool:
        """An update was made since the run started again."""
        text = self.output()
        return text.rfind("] update ") > text.rfind("starting again from the last checkpoint")

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_S)


def hurt(patient: Patient, minutes: float, kill_every: float) -> None:
    """Two workers at least and the learner once, however short the time."""
    patient.until("the first update", lambda: patient.updates() > 0)
    began = time.monotonic()
    patient.kill(WORKER)
    next_kill, learner_dead = began + kill_every, False
    while time.monotonic() < began + 60 * minutes or not learner_dead:
        patient.look()
        if not learner_dead and time.monotonic() > began + 30 * minutes:
            kill_learner(patient)
            learner_dead, next_kill = True, time.monotonic() + kill_every
        elif time.monotonic() > next_kill:
            patient.kill(WORKER)
            next_kill += kill_every
    patient.until("the return of every worker", patient.settled)


def kill_learner(patient: Patient) -> None:
    """And a worker when the checkpoint from which the run has started again is gone: what replaces it needs another."""
    patient.until("the return of every worker", patient.settled)
    patient.until("a checkpoint", patient.checkpoints)
    patient.kill(LEARNER)
    patient.until("a restart", lambda: patient.said("starting again from the last checkpoint") == 1)
    resumed_from = patient.checkpoints()[-1]
    patient.until("more updates", patient.goes_on)
    patient.until("the removal of the checkpoint it resumed from", lambda: not resumed_from.exists())
    patient.kill(WORKER)


def growth(memory: Sequence[tuple[float, float]]) -> float:
    """Mean of the last fifth of the time over that of the second."""
    first, last = memory[0][0], memory[-1][0]
    fifth = (last - first) / 5 or 1.0
    early = [mb for at, mb in memory if first + fifth <= at <= first + 2 * fifth] or [memory[0][1]]
    late = [mb for at, mb in memory if at >= last - fifth]
    return fmean(late) / fmean(early)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kill-every", type=float, default=60, help="seconds")
    parser.add_argument("--folder", type=Path, help="the run folder; default: a new temporary one")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="soak-")) / "run"

    with judge_server(answer) as judge:
        patient = Patient(folder, judge.url)
        try:
            hurt(patient, options.minutes, options.kill_every)
            code = patient.end()
        finally:
            if patient.process.poll() is None:
                patient.process.kill()
        asked = len(judge.asked)

    rollouts, metrics = read(folder / "rollouts.jsonl"), read(folder / "metrics.jsonl")
    wrong = audit(rollouts, metrics) + ([f"the run answered SIGTERM with exit code {code}"] if code else [])
    print(f"\nrun folder {folder}, {patient.updates()} updates, {len(rollouts)} rollouts, {asked} calls of the judge")
    print(f"workers lost {patient.said(' is lost: ')}, learner restarts {patient.said('starting again from the last')}")
    print(f"unscored rollouts: {sum(row['reward'] is None for row in rollouts)}")
    for name, memory in sorted(patient.memory.items()):
        sizes = [mb for _, mb in memory]
        print(f"{name:22s} resident {sizes[0]:6.0f} MB first, {max(sizes):6.0f} most, {sizes[-1]:6.0f} last")
    print("audit: " + ("; ".join(wrong[:5]) if wrong else "every episode complete, no rollout lost, none twice"))
    ratio = growth(patient.memory["run"])
    print(f"resident memory of the run's process, last fifth over second fifth: {ratio:.3f}")
    return int(bool(wrong) or (options.minutes >= FLAT_FROM_MINUTES and ratio > GOAL))


if __name__ == "__main__":
    sys.exit(main())
