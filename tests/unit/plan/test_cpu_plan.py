"""A machine without a GPU: every process is counted in every phase, and what does not fit is told with both numbers."""

from __future__ import annotations

import pytest

from sailrl.plan import memory as m
from sailrl.plan.cpu_plan import COMMAND, ENGINE, RANK, RAY, REWARD, cpu_advice, cpu_plan
from sailrl.plan.memory import GIB
from tests.unit.plan.test_memory import SHAPE, make

FLOAT = {"path": "unused", "dtype": "float32"}


def test_the_processes_of_a_run_are_counted() -> None:
    config = make(model=FLOAT, learner={"ranks": 1}, rollout={"engine": {"kv_cache_gib": 2.0, "max_concurrent": 8}})
    plan = cpu_plan(config, SHAPE)
    assert plan.parts["the command, Ray, rewards"] == (COMMAND + RAY + 2 * REWARD,) * 3
    # Weights twice (vLLM packs them), 2 GiB of cache, and the work of a step of 8,192 tokens.
    work = 8192 * 4 * (4 * SHAPE.inner + 4 * SHAPE.hidden) + 2 * 4 * 512 * 25
    assert plan.parts["engine (1)"] == (ENGINE + 2 * 4 * 2000 + 2 * GIB + work,) * 3
    # Two versions of 4 x 2,000 bytes; rank 0 writes its own tensors.
    assert plan.parts["weights in shared memory"] == (16_000, 16_000, 16_000)
    # In half precision a version has 2 x 2,000 bytes, and rank 0 makes a copy to write.
    half = cpu_plan(make(model={**FLOAT, "dtype": "bfloat16"}, learner={"ranks": 1}), SHAPE)
    assert half.parts["weights in shared memory"] == (8_000, 12_000, 8_000)
    assert plan.kv_tokens == 2 * GIB // 320  # 2 x 10 layers x 2 heads x 2 x 4 bytes
    assert plan.peak == sum(sizes[1] for sizes in plan.parts.values())


def test_a_rank_keeps_what_its_largest_phase_took() -> None:
    learner = cpu_plan(make(model=FLOAT, learner={"ranks": 1, "max_tokens_per_microbatch": 4000}), SHAPE).parts
    assert len(set(learner["learner (1)"])) == 1
    small = cpu_plan(make(model=FLOAT, learner={"ranks": 1, "max_tokens_per_microbatch": 400}), SHAPE).parts
    assert learner["learner (1)"][2] > small["learner (1)"][2] > RANK + 16 * 2000


def test_ranks_and_engines_share_the_machine() -> None:
    one = cpu_plan(make(learner={"ranks": 1}), SHAPE)
    more = cpu_plan(make(learner={"ranks": 2}, rollout={"workers": 3}), SHAPE)
    assert more.parts["engine (3)"][0] == 3 * one.parts["engine (1)"][0]
    assert more.parts["learner (2)"][0] > 2 * RANK


def test_what_does_not_fit_is_told_with_a_change_that_helps() -> None:
    config = make(model=FLOAT, rollout={"engine": {"kv_cache_gib": 8.0}}, learner={"ranks": 1})
    (fault,) = cpu_plan(config, SHAPE).faults(4 * GIB)
    assert fault.startswith("the run needs 9.")
    assert "GiB and this machine has 4.0; the largest part is engine (1) with 8.5." in fault
    assert cpu_advice(config, SHAPE, 4 * GIB) == "Write rollout.engine.kv_cache_gib: 1."
    assert "GPUs" in cpu_advice(config, SHAPE, GIB)


def test_a_cache_too_small_for_one_sequence_is_a_fault() -> None:
    config = make(model=FLOAT, data={"max_prompt_tokens": 4_000_000}, learner={"ranks": 1})
    assert any("raise rollout.engine.kv_cache_gib" in fault for fault in cpu_plan(config, SHAPE).faults(1 << 60))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_an_engine_works_on_the_tokens_of_its_steps(device: m.Device) -> None:
    config = make(rollout={"engine": {"max_concurrent": 8, "enforce_eager": True}})
    expected = 8192 * 2 * (4 * SHAPE.inner + 4 * SHAPE.hidden) + 2 * 4 * 512 * 25
    assert m.engine_work(SHAPE, config, device) == expected
