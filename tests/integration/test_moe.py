"""A mixture of experts through the whole loop with real Ray and real vLLM: GSPO, replay, balance, and a climb."""

from __future__ import annotations

from statistics import fmean

import pytest

from tests.integration.conftest import ROOT, Finished, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GSPO = ROOT / "configs" / "gspo_tiny.yaml"
LAYERS, EPISODES, UPDATES = 4, 10, 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The shipped configuration, shortened, with everything on that concerns experts."""
    return run(
        tmp_path_factory.mktemp("runs") / "gspo",
        f"batch.episodes={EPISODES}",
        "data.eval.limit=16",
        "eval.every_episodes=100",
        "checkpoint.every_episodes=100",
        "learner.routing_replay=r2",
        "learner.router_aux_coef=0.001",
        "rewards.deadline_s=60",
        "rewards.parts.boxed.args={deadline_s: 60}",
        config=GSPO,
    )


def test_a_run_measures_replays_and_balances_its_experts(trained: Finished) -> None:
    assert trained.code == 0, trained.output
    updates = [line for line in trained.metrics() if "reward/mean" in line]
    assert [line["step"] for line in updates] == list(range(1, EPISODES * UPDATES + 1))
    for line in updates:
        # Float32 on both sides. Experts are chosen by a comparison, so rounding may, rarely, choose another one.
        assert line["mismatch/k3"] < 1e-5
        assert line["mismatch/ess"] > 0.99
        assert all(0 < line[f"router/load_entropy/layer_{layer}"] <= 1 for layer in range(LAYERS))
        assert line["router/balance_loss"] >= 0.9  # 1 is balanced
        assert 0 <= line["router/dead_experts"] < 8 * LAYERS
    # The first update of an episode is on the policy that was recorded: replay changes nothing and the ratio is 1.
    for line in updates[0::UPDATES]:
        assert line["router/changed_fraction"] == 0
        assert line["ratio/max"] == pytest.approx(1.0, abs=1e-4)
    assert max(line["router/changed_fraction"] for line in updates) > 0  # later ones would have chosen otherwise
    assert [("router/probe/load_entropy/mean" in line) for line in updates] == [False, False, False, True] * EPISODES
    assert max(line["sync/max_abs_dlogp"] for line in updates if "sync/max_abs_dlogp" in line) < 1e-4


def test_gspo_on_the_tiny_mixture_of_experts_climbs(trained: Finished) -> None:
    assert trained.code == 0, trained.output
    # Sampled accuracy over all groups of an episode, dropped ones too: some 400 responses to new problems each, so
    # that the mean of three episodes has a standard error near 1.5 points.
    accuracy = [line["accuracy"] for line in trained.metrics() if "accuracy" in line][::UPDATES]
    assert fmean(accuracy[-3:]) > fmean(accuracy[:3]) + 0.04
