"""A mixture of experts through the whole loop with real Ray and real vLLM: GSPO, replay, balance, and a climb."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

GSPO = ROOT / "configs" / "gspo_tiny.yaml"
LAYERS = 4


def test_a_short_run_measures_replays_and_balances_its_experts(tmp_path: Path) -> None:
    done = run(
        tmp_path / "moe",
        "warm_start.steps=20",
        "data.train.limit=64",
        "data.eval.limit=16",
        "rollout.dynamic_sampling.enabled=false",
        "batch.rollouts_per_episode=64",
        "batch.rollouts_per_update=16",
        "batch.episodes=2",
        "learner.routing_replay=r2",
        "learner.router_aux_coef=0.001",
        "rewards.deadline_s=60",
        "rewards.parts.boxed.args={deadline_s: 60}",
        config=GSPO,
    )
    assert done.code == 0, done.output
    updates = [line for line in done.metrics() if "reward/mean" in line]
    assert [line["step"] for line in updates] == list(range(1, 9))  # 2 episodes of 4 updates
    for line in updates:
        # Float32 on both sides. Experts are chosen by a comparison, so rounding may, rarely, choose another one.
        assert line["mismatch/k3"] < 1e-5
        assert line["mismatch/ess"] > 0.99
        assert all(0 < line[f"router/load_entropy/layer_{layer}"] <= 1 for layer in range(LAYERS))
        assert line["router/balance_loss"] >= 0.9  # 1 is balanced
        assert 0 <= line["router/dead_experts"] < 8 * LAYERS
    # The first update of an episode is on the policy that was recorded: replay changes nothing and the ratio is 1.
    for line in updates[0::4]:
        assert line["router/changed_fraction"] == 0
        assert line["ratio/max"] == pytest.approx(1.0, abs=1e-4)
    assert max(line["router/changed_fraction"] for line in updates) > 0  # later ones would have chosen otherwise
    assert [("router/probe/load_entropy/mean" in line) for line in updates] == [False, False, False, True] * 2
    assert max(line["sync/max_abs_dlogp"] for line in updates if "sync/max_abs_dlogp" in line) < 1e-4


def test_gspo_on_the_tiny_mixture_of_experts_climbs(tmp_path: Path) -> None:
    done = run(tmp_path / "gspo", "batch.episodes=25", config=GSPO)
    assert done.code == 0, done.output
    accuracy = [line["eval/accuracy"] for line in done.metrics() if "eval/accuracy" in line]
    assert accuracy[-1] > accuracy[0] + 0.10
