"""The tiny demo with an adapter: engines get it merged, and a second command goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.integration.conftest import SHORT, metrics, run

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

LORA = (*SHORT, "model.lora={rank: 8}", "learner.learning_rate=1e-3", "checkpoint.every_episodes=1")
PROMPT = torch.arange(20, 60)[None]


def test_an_adapter_reaches_the_engine_and_survives_a_restart(fresh_folder: Callable[[], Path]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = fresh_folder()
    for episodes in (1, 2):
        done = run(folder, *LORA, f"batch.episodes={episodes}")
        assert done.code == 0, done.output
    updates = [line for line in metrics(folder) if "reward/mean" in line]
    assert [line["step"] for line in updates] == list(range(1, 9))
    # Float32 on both sides: the merged weights compute what base and adapter do, also right after the restart.
    assert max(line["sync/max_abs_dlogp"] for line in updates if "sync/max_abs_dlogp" in line) < 1e-4
    assert max(line["mismatch/max_abs_dlogp"] for line in updates[0::4]) < 1e-4

    last = folder / "checkpoints" / "episode-000002"
    base, whole = (AutoModelForCausalLM.from_pretrained(path) for path in (folder / "warm_start", last / "model"))
    with torch.no_grad():
        plain, merged = base(PROMPT).logits, whole(PROMPT).logits
        adapted = PeftModel.from_pretrained(base, str(last / "adapter"))(PROMPT).logits
    assert torch.allclose(adapted, merged, atol=1e-4)
    assert (merged - plain).abs().max() > 1e-2
