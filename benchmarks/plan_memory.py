"""The memory plan of ``sailrl check`` against what a learner really takes, on a CPU.

    python benchmarks/plan_memory.py          # models of 33M and 52M parameters in fresh processes: half a minute

Each case writes a randomly initialised model. A process of its own builds the learner on it, makes an update on two
short samples, and then one of two full micro-batches, so that gradients and moments are there when activations peak.
Measured is the high-water mark of resident memory over the second update, less what the process took with everything
imported and no model. Predicted is the largest phase of the learner's plan. ``MALLOC_MMAP_THRESHOLD_`` is fixed: freed
tensors go back to the system at once, and the mark is of tensors in use.

The last line is the largest error; goal, at most 15% either way. Exit code 1 when it is missed. GPUs are not measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GOAL = 0.15
TOKENS, PROMPT, RESPONSE = 1024, 128, 128
DENSE: dict[str, Any] = {"intermediate_size": 1536}
EXPERTS: dict[str, Any] = {
    "intermediate_size": 1536, "moe_intermediate_size": 384, "num_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dense": (DENSE, {}),
    "dense, recomputed": (DENSE, {"activation_checkpointing": True}),
    "experts": (EXPERTS, {}),
}


def status_mb(field: str) -> float:
    """``VmRSS`` (resident now) or ``VmHWM`` (its high-water mark) of this process."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the kernel does not report {field}")


def write_model(folder: Path, more: dict[str, Any]) -> None:
    """A Qwen3 with 8 layers and a vocabulary of 8,000."""
    from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3MoeConfig

    kind: Any = Qwen3MoeConfig if "num_experts" in more else Qwen3Config
    config = kind(
        vocab_size=8_000, hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4,
        head_dim=64, tie_word_embeddings=False, max_position_embeddings=4096, **more,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def child(folder: str, learner: dict[str, Any]) -> None:
    """Prints predicted and measured megabytes, and the parts of the prediction."""
    import numpy as np
    import torch

    from sailrl.config.losses import Dapo, MismatchConfig
    from sailrl.config.schema import RlvrConfig
    from sailrl.data.batch import Sample
    from sailrl.learner.learner import Learner
    from sailrl.learner.model import Policy
    from sailrl.learner.objective import Objective, UpdateScope
    from sailrl.learner.shape import model_shape
    from sailrl.plan.memory_plan import learner_parts

    config = RlvrConfig.model_validate(
        {
            "kind": "rlvr",
            "model": {"path": folder, "dtype": "float32"},
            "data": {"train": {"path": "unused"}, "max_prompt_tokens": PROMPT},
            "rewards": {"parts": {"none": {"use": "unused:unused", "weight": 1.0}}},
            "rollout": {"max_response_tokens": RESPONSE},
            "learner": {"max_tokens_per_microbatch": TOKENS, **learner},
        }
    )
    shape = model_shape(folder)
    parts = learner_parts(config, shape, "cpu")
    phases = [sum(sizes[phase] for sizes in parts.values()) for phase in range(3)]  # loss, backward, step
    (torch.ones(256, 256, requires_grad=True) @ torch.ones(256, 256)).sum().backward()  # thread pools, workspaces
    before = status_mb("VmRSS")
    policy = Policy(folder, activation_checkpointing=config.learner.activation_checkpointing)
    learner_ = Learner(policy, Objective(Dapo(), MismatchConfig(), max_response_tokens=RESPONSE), config.learner)
    draw = np.random.default_rng(0)

    def ids(count: int) -> np.ndarray:
        return draw.integers(0, 8_000, count).astype(np.int32)

    count = 2 * TOKENS // (PROMPT + RESPONSE)
    logp = np.full(RESPONSE, -9.0, np.float32)
    samples = [Sample(ids(PROMPT), ids(RESPONSE), logp, 1.0 if n % 2 else -1.0, ()) for n in range(count)]
    first = [Sample(ids(4), ids(4), logp[:4], gain, ()) for gain in (1.0, -1.0)]
    learner_.set_episode(first)
    learner_.update(range(2), UpdateScope(8, 2, 0.2, 0.28))  # from here on there are moments
    learner_.set_episode(samples)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the high-water mark starts again
    learner_.update(range(count), UpdateScope(RESPONSE * count, count, 0.2, 0.28))
    measured = status_mb("VmHWM") - before
    megabytes = {part: [round(size / 2**20) for size in sizes[:3]] for part, sizes in parts.items() if any(sizes[:3])}
    print(json.dumps([shape.parameters, max(phases) / 2**20, measured, megabytes]))


def main() -> int:
    worst = 0.0
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    for name, (more, learner) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder), more)
            command = [sys.executable, __file__, folder, json.dumps(learner)]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        parameters, predicted, measured, parts = json.loads(done.stdout.splitlines()[-1])
        error = predicted / measured - 1
        worst = max(worst, error, -error)
        print(f"{name:18} {parameters / 1e6:.0f}M parameters: predicted {predicted:,.0f} MiB, measured {measured:,.0f}")
        print(f"{'':18} {error:+.1%}; loss, backward, step: {parts}")
    print(f"largest error {worst:.3f} (goal at most {GOAL})")
    return 0 if worst <= GOAL else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1], json.loads(sys.argv[2]))
    else:
        sys.exit(main())
