"""One RL step of sailrl beside one of TRL's GRPOTrainer: same model, prompts, batch, reward and loss, in turn.

    python benchmarks/rl_step.py                    # 3 rounds of 12 updates each, about ten minutes on two cores
    python benchmarks/rl_step.py --rounds 1 --updates 6

Both sides start from the same warm-started tiny Qwen3 (0.86M parameters) and learn two-digit additions with 32 prompts
x 8 responses per update, one update per batch, DAPO's loss, float32 on CPU. sailrl generates with vLLM, TRL with
transformers (its way on CPU). Start-up is not counted, and neither are the first two updates of a round (warm-up).
A step is everything from one update to the next; for sailrl that includes publishing the weights and proving it.
The last line is the ratio of trained response tokens per second, sailrl over TRL; above 1 is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "rlvr_tiny.yaml"
PROMPTS, GROUP, RESPONSE_TOKENS, LEARNING_RATE = 32, 8, 48, 3e-4
WARM_UP_UPDATES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--trl-side", nargs=2, metavar=("MODEL", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.trl_side:
        _trl_side(*given.trl_side, updates=given.updates)
        return
    with tempfile.TemporaryDirectory(prefix="sailrl-bench-") as folder:
        work = Path(folder)
        model = _warm_model(work)
        sides: dict[str, list[tuple[float, float]]] = {"sailrl": [], "TRL": []}
        overheads: list[float] = []
        for number in range(given.rounds):
            lines = _sailrl(work / f"run-{number}", model, given.updates)
            sides["sailrl"] += [(line["time/step_s"], line["tokens/trained_per_s"]) for line in lines]
            overheads += [line["time/other_s"] / line["time/step_s"] for line in lines]
            sides["TRL"] += _trl(work / f"trl-{number}.json", model, given.updates)
            print(f"round {number + 1} of {given.rounds} done", file=sys.stderr)
    print(f"{'':8} {'updates':>8} {'step s (median)':>16} {'tokens/s (median)':>18}")
    for name, steps in sides.items():
        seconds, rate = (statistics.median(column) for column in zip(*steps, strict=True))
        print(f"{name:8} {len(steps):8d} {seconds:16.2f} {rate:18,.0f}")
    print(f"sailrl's own share of a step (not generating, learning or syncing): {statistics.median(overheads):.1%}")
    ours, theirs = (statistics.median(rate for _, rate in sides[name]) for name in ("sailrl", "TRL"))
    print(f"ratio {ours / theirs:.2f}")


def _warm_model(work: Path) -> str:
    """The tiny model after the demo's supervised stage; made by a run that stops before its first update."""
    _run(["sailrl", "run", str(CONFIG), f"run.dir={work / 'warm'}", "batch.episodes=1", *_SAME_BATCH])
    return str(work / "warm" / "warm_start")


_SAME_BATCH = [
    f"batch.group_size={GROUP}",
    f"batch.rollouts_per_episode={PROMPTS * GROUP}",
    f"batch.rollouts_per_update={PROMPTS * GROUP}",
    "batch.passes_per_episode=1",
    f"rollout.max_response_tokens={RESPONSE_TOKENS}",
    f"learner.learning_rate={LEARNING_RATE}",
    # TRL has no dynamic sampling: without it both sides train on every response they sample.
    "rollout.dynamic_sampling.enabled=false",
    "data.eval.limit=8",
    "eval.every_episodes=1000",
    "checkpoint.every_episodes=1000",
]


def _sailrl(run_dir: Path, model: str, updates: int) -> list[dict[str, Any]]:
    overrides = [f"run.dir={run_dir}", f"model.path={model}", "model.build=null", "warm_start=null"]
    _run(["sailrl", "run", str(CONFIG), *overrides, f"batch.episodes={updates}", *_SAME_BATCH])
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "grad_norm" in line][WARM_UP_UPDATES:]


def _trl(out: Path, model: str, updates: int) -> list[tuple[float, float]]:
    _run([sys.executable, __file__, "--trl-side", model, str(out), "--updates", str(updates)])
    return [(seconds, tokens / seconds) for seconds, tokens in json.loads(out.read_text())][WARM_UP_UPDATES:]


def _run(command: list[str]) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")


def _trl_side(model: str, out: str, *, updates: int) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from rewards.boxed import BoxedAnswer
    from rewards.think_format import ThinkFormat
    from sailrl.demo.additions import rows
    from sailrl.types import Problem

    answer_reward, format_reward = BoxedAnswer(), ThinkFormat()

    def reward(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        problems = [Problem(answer=gold, task="math") for gold in answer]
        pairs = list(zip(completions, problems, strict=True))
        return [0.9 * answer_reward(c, p).value + 0.1 * format_reward(c, p).value for c, p in pairs]

    tokenizer = AutoTokenizer.from_pretrained(model)

    def prompt(text: str) -> str:
        chat = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    times: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.since = time.perf_counter()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if "completions/mean_length" in logs:
                now = time.perf_counter()
                times.append((now - self.since, logs["completions/mean_length"] * PROMPTS * GROUP))
                self.since = now

    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(
            [{"prompt": prompt(r["prompt"]), "answer": r["answer"]} for r in rows(4096, 2)]
        ),
        callbacks=[Clock()],
        args=GRPOConfig(
            output_dir=str(Path(out).with_suffix("")),
            max_steps=updates,
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            max_completion_length=RESPONSE_TOKENS,
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
    Path(out).write_text(json.dumps(times))


if __name__ == "__main__":
    main()
