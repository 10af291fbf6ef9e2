"""Hours are counted work over assumed speeds: by hand on a model small enough for a pencil."""

from __future__ import annotations

import pytest

from sailrl.plan.time_plan import Speed, matrix_parameters, time_plan
from tests.unit.plan.test_memory import SHAPE, make

SPEED = Speed("a pencil", operations=1e6, bandwidth=1e6, compute_share=0.5, memory_share=0.25)
BATCH = {"group_size": 4, "rollouts_per_episode": 32, "rollouts_per_update": 32, "passes_per_episode": 1, "episodes": 5}
ONE = {"ranks": 1, "max_tokens_per_microbatch": 100}


def test_a_token_meets_the_decoder_and_the_output_layer_and_only_its_own_experts() -> None:
    assert matrix_parameters(SHAPE) == SHAPE.decoder + 25 * SHAPE.hidden


def test_an_episode_by_hand() -> None:
    config = make(batch=BATCH, learner=ONE, rollout={"dynamic_sampling": {"enabled": False}})
    plan = time_plan(config, SHAPE, SPEED, kv_tokens=800)
    # Prompts at their limit of 60, responses of half their limit: 20; context 60 + 10.
    assert (plan.prompt_tokens, plan.response_tokens, plan.sampled_per_kept) == (60, 20, 1.0)
    # Forward, per token: 2 x matrices + 4 x 10 layers x 4 heads x 2 x 70.
    forward = 2 * (SHAPE.decoder + 25 * SHAPE.hidden) + 4 * 10 * 4 * 2 * 70
    # 32 responses of 20 and 8 prompts of 60 tokens, forward and twice as much backward, at 0.5e6 operations a second.
    assert plan.learn_s == pytest.approx((32 * 20 + 8 * 60) * 3 * forward / 0.5e6)
    # The cache of 800 tokens holds 10 sequences of 80: arithmetic is slower than reading 2 bytes x 2,000 parameters.
    step = max((2 * 2000 + 10 * 70 * 160) / 0.25e6, 10 * forward / 0.5e6)
    assert plan.tokens_per_s == pytest.approx(10 / step)
    assert plan.generate_s == pytest.approx(32 * 20 / 10 * step + 8 * 60 * forward / 0.5e6)
    assert plan.episode_s == pytest.approx(plan.generate_s + plan.learn_s)


def test_what_costs_more_takes_longer() -> None:
    def learn(**sections: object) -> float:
        return time_plan(make(**({"batch": BATCH, "learner": ONE} | sections)), SHAPE, SPEED, kv_tokens=800).learn_s

    plain = learn()
    assert learn(learner=ONE | {"activation_checkpointing": True}) == pytest.approx(plain * 4 / 3)
    # Two updates in an episode: the old policy's log-probabilities are one more forward pass.
    assert learn(batch=BATCH | {"rollouts_per_update": 16}) == pytest.approx(plain * 4 / 3)
    assert learn(learner=ONE | {"ranks": 2}) == pytest.approx(plain / 2)


def test_where_generation_goes_on_meanwhile_the_slower_side_decides() -> None:
    config = make(batch=BATCH, learner=ONE, rollout={"max_staleness": 1})
    plan = time_plan(config, SHAPE, SPEED, kv_tokens=800)
    assert plan.sampled_per_kept == 1.5
    assert plan.episode_s == max(plan.generate_s, plan.learn_s)
    alone = time_plan(config, SHAPE, SPEED, kv_tokens=800, machines=1)  # the cores are the same on both sides
    assert alone.episode_s == pytest.approx(alone.generate_s + alone.learn_s)
