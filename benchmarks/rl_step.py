"""One RL step of sailrl beside one of TRL's GRPOTrainer: same model, prompts, batch, reward and loss, in turn.

    python benchmarks/rl_step.py                         # short answers of about equal length
    python benchmarks/rl_step.py --lengths skewed        # answers as long as reasoning is: some ten times the median
    python benchmarks/rl_step.py --asynchronous --updates 40    # max_staleness 1 beside 0, no TRL
    python benchmarks/rl_step.py --rounds 1 --updates 6 --dir DIR      # shorter; DIR keeps the model and the runs

All sides start from the same warm-started tiny Qwen3 (0.86M parameters) and learn with 32 prompts x 8 responses per
update, one update per batch, DAPO's loss, the same learning rate, float32 on CPU. sailrl runs synchronously, with two
vLLM engines, and with ``max_staleness: 1``, with one engine and the learner on one core; TRL samples with transformers
(its way on CPU). Start-up is not counted, and neither are the first two updates of a round (warm-up). A step is
everything from one update to the next; for sailrl that includes publishing the weights and proving it.

``uniform``: two-digit additions, worked out in about 24 tokens. ``skewed``: "from 231 to 245", to be listed, where
the count is drawn from a log-normal distribution (median 14, sigma 0.8, at most 104): median 60, at most 430 tokens.
Nothing forces a length: the model has learned to write as many numbers as the problem asks for, all sides sample until
it ends its turn, and the table shows the lengths that came out on each side.

``--asynchronous``: each round is three runs of the same seed with one engine on one core. In two of them the learner
has one core, too, as each would have GPUs of its own: asynchronous they work side by side, synchronous they take turns.
In the third, synchronous one the learner has both cores. The learning rate warms up as in the demo.

Held-out accuracy after the last update of each round is printed: a ratio counts only when accuracies agree. The last
lines are ratios of trained response tokens per second, of the medians over all updates; above 1 is faster.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "rlvr_tiny_text.yaml"
PROMPTS, GROUP = 32, 8
LEARNING_RATE = 1e-4  # a third of the demo's, at which stale data takes too large steps: accuracy falls
WARM_UP_UPDATES = 2
STALE = "rollout.max_staleness=1", "learner.threads=1"
BESIDE_TRL: Mapping[str, Sequence[str]] = {
    "sailrl": ("rollout.workers=2", "learner.warmup_updates=0"),
    "sailrl, max_staleness 1": (*STALE, "learner.warmup_updates=0"),
    "TRL": (),
}
ASYNCHRONOUS: Mapping[str, Sequence[str]] = {
    "asynchronous": STALE,
    "synchronous": ("learner.threads=1",),
    "synchronous, both cores": (),
}
"""Settings of the sides."""


@dataclass(frozen=True)
class Task:
    """Problems of one kind of length."""

    rows: str
    response_tokens: int
    warm_steps: int


TASKS = {
    "uniform": Task("sailrl.demo.additions:rows", 48, 180),
    "skewed": Task("benchmarks.rl_step:counting", 448, 250),
}


def counting(count: int, seed: int, split: str = "train") -> Iterator[dict[str, Any]]:
    """Yields problems whose answers are as long as they ask for: "from 231 to 245", every number between them."""
    draw = random.Random(f"{split}-{seed}")
    for number in range(count):
        length = min(104, max(2, round(draw.lognormvariate(math.log(14), 0.8))))
        first = draw.randint(100, 999 - length)
        listed = [str(first + i) for i in range(length)]
        yield {
            "id": f"{split}-{seed}-{number}",
            "prompt": f"from {first} to {listed[-1]}",
            "answer": listed[-1],
            "task": "math",
            "meta": {"response": f"<think>{' '.join(listed)}</think>\\boxed{{{listed[-1]}}}"},
        }


@dataclass
class Side:
    """What was measured of one side, one entry per update."""

    seconds: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    longest: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    """Held out, after the last update of a round."""
    other: list[float] = field(default_factory=list)
    """Share of a step in which sailrl waited neither for generating nor for learning nor for syncing."""

    @property
    def rate(self) -> float:
        return statistics.median(t / s for t, s in zip(self.tokens, self.seconds, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", choices=TASKS, default="uniform")
    parser.add_argument("--asynchronous", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--dir", type=Path, help="keeps the warm-started model, and the runs of the last call")
    parser.add_argument("--trl-side", nargs=2, metavar=("MODEL", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    task = TASKS[given.lengths]
    if given.trl_side:
        _trl_side(*given.trl_side, task=task, updates=given.updates)
        return
    with tempfile.TemporaryDirectory(prefix="sailrl-bench-") as folder:
        work = given.dir or Path(folder)
        model = _warm_model(task, work / f"warm-{given.lengths}")
        settings = ASYNCHRONOUS if given.asynchronous else BESIDE_TRL
        sides = {name: Side() for name in settings}
        for number in range(given.rounds):
            for name, side in sides.items():
                where = work / f"{given.lengths}-{name}-{number}"
                shutil.rmtree(where, ignore_errors=True)
                if name == "TRL":
                    _trl(side, where, model, given.lengths, given.updates)
                else:
                    _sailrl(side, where, model, task, given.updates, [f"run.seed={number}", *settings[name]])
            print(f"round {number + 1} of {given.rounds} done, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print(f"{'':25} {'updates':>8} {'step s':>8} {'tokens/s':>9} {'tokens':>7} {'longest':>8}   (medians over updates)")
    for name, side in sides.items():
        median = [statistics.median(v) for v in (side.seconds, side.tokens, side.longest)]
        print(f"{name:25} {len(side.seconds):8d} {median[0]:8.2f} {side.rate:9,.0f} {median[1]:7,.0f} {median[2]:8.0f}")
        print(f"{'':25} held-out accuracy {', '.join(f'{a:.1%}' for a in side.accuracies)}")
        if side.other:
            print(f"{'':25} neither generating, learning nor syncing: {statistics.median(side.other):.1%} of a step")
    if given.asynchronous:
        ratios = [("asynchronous", "synchronous, both cores"), ("asynchronous", "synchronous")]
    else:
        ratios = [(name, "TRL") for name in sides if name != "TRL"]
    for faster, slower in ratios:
        print(f"ratio {faster} over {slower} {sides[faster].rate / sides[slower].rate:.2f}")


def _overrides(task: Task) -> list[str]:
    rollouts = PROMPTS * GROUP
    overrides = [
        f"batch.group_size={GROUP}",
        f"batch.rollouts_per_episode={rollouts}",
        f"batch.rollouts_per_update={rollouts}",
        "batch.passes_per_episode=1",
        f"rollout.max_response_tokens={task.response_tokens}",
        f"learner.learning_rate={LEARNING_RATE}",
        # TRL has no dynamic sampling: without it all sides train on every response they sample.
        "rollout.dynamic_sampling.enabled=false",
        "run.deterministic=false",
        "rollout.engine.enforce_eager=false",
        "eval.every_episodes=1000",
        "checkpoint.every_episodes=1000",
    ]
    for part, args in (("train", "count: 4096, seed: 2"), ("eval", "count: 256, seed: 3, split: eval")):
        overrides.append(f"data.{part}.generate={{use: '{task.rows}', args: {{{args}}}}}")
    return overrides


def _warm_model(task: Task, folder: Path) -> str:
    """The tiny model after a supervised stage; made, where it is not there yet, by a run of one update."""
    if not (folder / "warm_start" / "config.json").exists():
        stage = f"{{data: {{generate: {{use: '{task.rows}', args: {{count: {64 * task.warm_steps}, seed: 1}}}}}}, "
        stage += f"steps: {task.warm_steps}, rows_per_step: 64, learning_rate: 2.0e-3}}"
        _run(
            [
                "sailrl",
                "run",
                str(CONFIG),
                f"run.dir={folder}",
                "batch.episodes=1",
                f"warm_start={stage}",
                *_overrides(task),
            ]
        )
    return str(folder / "warm_start")


def _sailrl(side: Side, folder: Path, model: str, task: Task, updates: int, settings: Sequence[str]) -> None:
    overrides = [f"run.dir={folder}", f"batch.episodes={updates}", *settings]
    overrides += [f"model.path={model}", "model.build=null", "warm_start=null"]
    _run(["sailrl", "run", str(CONFIG), *_overrides(task), *overrides])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    side.accuracies.append([line["eval/accuracy"] for line in lines if "eval/accuracy" in line][-1])
    for line in [line for line in lines if "grad_norm" in line][WARM_UP_UPDATES:]:
        side.seconds.append(line["time/step_s"])
        side.tokens.append(line["tokens/trained_per_s"] * line["time/update_s"])  # an episode has one update
        side.longest.append(line["response_tokens/max"])
        side.other.append(line["time/other_s"] / line["time/step_s"])


def _trl(side: Side, out: Path, model: str, lengths: str, updates: int) -> None:
    options = ["--lengths", lengths, "--updates", str(updates)]
    _run([sys.executable, __file__, "--trl-side", model, str(out), *options])
    measured = json.loads(out.read_text(encoding="utf-8"))
    side.accuracies.append(measured["accuracy"])
    for seconds, tokens, longest in measured["times"][WARM_UP_UPDATES:]:
        side.seconds.append(seconds)
        side.tokens.append(tokens)
        side.longest.append(longest)


def _run(command: list[str]) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")


def _trl_side(model: str, out: str, *, task: Task, updates: int) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from rewards.boxed import BoxedAnswer
    from rewards.think_format import ThinkFormat
    from sailrl.plugins import load
    from sailrl.types import Problem

    answer_reward, format_reward = BoxedAnswer(), ThinkFormat()

    def reward(completions: list[str], answer: list[str], **_: Any) -> list[float | None]:
        problems = [Problem(answer=gold, task="math") for gold in answer]
        pairs = list(zip(completions, problems, strict=True))
        return [0.9 * (answer_reward(c, p).value or 0) + 0.1 * (format_reward(c, p).value or 0) for c, p in pairs]

    tokenizer = AutoTokenizer.from_pretrained(model)

    def prompt(text: str) -> str:
        chat = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    times: list[tuple[float, float, float]] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.since = time.perf_counter()

        def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            logs: dict[str, float] = more["logs"]
            if "completions/mean_length" in logs:
                now = time.perf_counter()
                tokens = logs["completions/mean_length"] * PROMPTS * GROUP
                times.append((now - self.since, tokens, logs["completions/max_length"]))
                self.since = now

    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(
            [{"prompt": prompt(r["prompt"]), "answer": r["answer"]} for r in load(task.rows)(4096, 2)]
        ),
        callbacks=[Clock()],
        args=GRPOConfig(
            output_dir=str(Path(out).with_suffix(".trl")),
            max_steps=updates,
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            max_completion_length=task.response_tokens,
            temperature=1.0,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            loss_type="dapo",
            epsilon=0.20,
            epsilon_high=0.28,
            beta=0.0,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            model_init_kwargs={"dtype": "float32"},
        ),
    )
    trainer.train()

    held_out = list(load(task.rows)(256, 3, split="eval"))
    asked = tokenizer(
        [prompt(row["prompt"]) for row in held_out],
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=False,
    )
    policy: Any = trainer.model
    said = policy.eval().generate(
        **asked, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=task.response_tokens
    )
    texts = tokenizer.batch_decode(said[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    problems = [Problem(answer=row["answer"], task="math") for row in held_out]
    right = [answer_reward(text, problem).value or 0.0 for text, problem in zip(texts, problems, strict=True)]
    Path(out).write_text(json.dumps({"times": times, "accuracy": statistics.fmean(right)}), encoding="utf-8")


if __name__ == "__main__":
    main()
