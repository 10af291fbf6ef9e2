"""Rollout workers die in every way they can, and nothing is lost, done twice, or waited for without an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sailrl.errors import DataError, RolloutError, WeightSyncError, WorkerDied
from sailrl.rollout.engine import Request, Sampling
from sailrl.rollout.supervisor import PromptLogprobs
from sailrl.types import Problem, Prompt
from tests.fakes.failing_workers import FailingPool, FailingWorker, Fault

T = TypeVar("T")
FOUR = Sampling(samples=4, temperature=1.0, max_tokens=8)
PROMPT = Prompt(Problem(prompt="?"), [1, 2], [1, 2])


def requests(count: int) -> list[Request]:
    return [Request(i, [100 + i]) for i in range(count)]


async def texts(pool: FailingPool, count: int, seed: int | None = None) -> dict[int, str]:
    """What each request was answered; fails when one is answered twice."""
    found: dict[int, str] = {}
    async for index, completions in pool.generate(requests(count), FOUR, seed=seed):
        assert index not in found
        assert len(completions) == 4
        found[index] = completions[0].text
    return found


def run(pool: FailingPool, what: Callable[[], Awaitable[T]]) -> T:
    async def whole() -> T:
        await pool.start()
        await pool.load_weights("weights-7", 7, timeout_s=5)
        try:
            return await asyncio.wait_for(what(), timeout=10)
        finally:
            await pool.stop()

    return asyncio.run(whole())


def dies(number: int, doing: str, at: int = 0, attempts: int = 1) -> Fault:
    """Worker ``number`` dies doing that, after ``at`` prompts, in its first ``attempts`` attempts."""

    def fault(worker: FailingWorker) -> None:
        if (worker.number, worker.doing) == (number, doing) and worker.done >= at and worker.attempt < attempts:
            worker.die()

    return fault


def test_groups_of_a_dead_worker_go_to_another_worker() -> None:
    pool = FailingPool(dies(0, "generate", at=2))
    assert run(pool, lambda: texts(pool, 12)) == {i: f"{100 + i}/None/7" for i in range(12)}
    assert pool.metrics()["workers/restarts"] == 1
    assert "rollout worker 0 is lost: it died during generate; starting another" in pool.messages


def test_without_any_worker_groups_wait_for_the_replacement() -> None:
    pool = FailingPool(dies(0, "generate", at=2), workers=1)
    assert len(run(pool, lambda: texts(pool, 12))) == 12
    assert [worker.done for worker in pool.started][1] >= 12 - 3  # two were told before the death, one perhaps with it
    assert pool.started[1].folder == "weights-7"  # it had the present weights before it got work


def test_a_seeded_wave_is_replayed_by_the_replacement_with_the_same_seeds() -> None:
    undisturbed, pool = FailingPool(), FailingPool(dies(1, "generate", at=2))
    expected = run(undisturbed, lambda: texts(undisturbed, 9, seed=50))
    assert expected[0] == "100/50/7"
    assert expected[1] == "101/51/7"  # the second worker's share has the next seed
    assert run(pool, lambda: texts(pool, 9, seed=50)) == expected
    assert [worker.number for worker in pool.started] == [0, 1, 1]
    assert pool.started[2].done == 4  # the whole share of 4, of which 2 were known


def test_the_next_wave_goes_to_the_replacement_of_a_worker_that_died_between_waves() -> None:
    pool = FailingPool(dies(1, "prompt_logprobs"))

    async def story() -> tuple[int, dict[int, str]]:
        answers = len(await pool.prompt_logprobs(PROMPT))
        return answers, await texts(pool, 4, seed=50)

    assert run(pool, story) == (1, {0: "100/50/7", 1: "101/51/7", 2: "102/50/7", 3: "103/51/7"})


def test_a_hanging_worker_is_dead_at_its_deadline() -> None:
    def fault(worker: FailingWorker) -> None:
        if worker.doing == "generate" and worker.attempt == 0 and worker.number == 0:
            worker.hang()

    for seed in (None, 1):
        pool = FailingPool(fault, timeout_s=0.2)
        assert len(run(pool, lambda pool=pool, seed=seed: texts(pool, 6, seed))) == 6  # type: ignore[misc]
        assert "within 0.2 s (rollout.timeout_s)" in pool.messages[0]
        assert pool.started[0].dead


def test_a_worker_that_dies_loading_weights_is_replaced_by_one_that_has_them() -> None:
    def fault(worker: FailingWorker) -> None:
        if worker.doing == "load_weights" and worker.version == 7 and worker.number == 1:
            worker.die()

    pool = FailingPool(fault)

    async def story() -> dict[int, str]:
        await pool.load_weights("weights-8", 8, timeout_s=5)
        return await texts(pool, 4, seed=0)

    assert set(run(pool, story).values()) == {"100/0/8", "101/1/8", "102/0/8", "103/1/8"}


def test_prompt_logprobs_wait_for_a_replacement_when_the_only_worker_dies() -> None:
    pool = FailingPool(dies(0, "prompt_logprobs"), workers=1)
    assert run(pool, lambda: pool.prompt_logprobs(PROMPT)) == [[7.0]]  # the first died while it was asked


def test_weights_published_while_a_replacement_starts_reach_it_before_any_work() -> None:
    pool = FailingPool(dies(0, "generate"), workers=1)

    async def story() -> dict[int, str]:
        first = asyncio.ensure_future(texts(pool, 2))
        while len(pool.started) == 1:
            await asyncio.sleep(0)
        await pool.load_weights("weights-8", 8, timeout_s=5)
        return await first

    assert run(pool, story) == {0: "100/None/8", 1: "101/None/8"}


def test_a_replacement_is_verified_before_it_gets_work() -> None:
    asked: list[tuple[int, int, list[float]]] = []

    async def verify(worker: int, version: int, prompt_logprobs: PromptLogprobs) -> bool:
        asked.append((worker, version, await prompt_logprobs(PROMPT)))
        return len(asked) > 1  # the first time nothing is known of that version yet

    pool = FailingPool(dies(0, "generate"), workers=1)
    pool.verify_replacements(verify)
    assert len(run(pool, lambda: texts(pool, 3))) == 3
    assert asked == [(0, 7, [7.0])] * 2


def test_a_replacement_that_is_not_verified_ends_the_run() -> None:
    async def verify(worker: int, version: int, prompt_logprobs: PromptLogprobs) -> bool:
        raise WeightSyncError("it does not compute with version 7")

    for seed in (None, 1):
        pool = FailingPool(dies(0, "generate"), workers=1)
        pool.verify_replacements(verify)
        with pytest.raises(WeightSyncError, match="does not compute"):
            run(pool, lambda pool=pool, seed=seed: texts(pool, 3, seed))  # type: ignore[misc]


@pytest.mark.parametrize("doing", ["generate", "load_weights", "start"])
@pytest.mark.parametrize("seed", [None, 1])
def test_a_worker_that_dies_again_and_again_ends_the_run_with_the_next_step(doing: str, seed: int | None) -> None:
    def fault(worker: FailingWorker) -> None:
        if worker.number == 0 and worker.doing == (doing if worker.attempt else "generate"):
            worker.die()

    pool = FailingPool(fault, workers=1, max_restarts=2)
    with pytest.raises(RolloutError, match=r"replaced 2 times .* rollout\.max_restarts .* resume") as caught:
        run(pool, lambda: texts(pool, 4, seed))
    assert not isinstance(caught.value, WorkerDied)  # the run must not restart for ever
    assert len(pool.started) == 3
    assert all(worker.dead for worker in pool.started)


def test_deaths_before_a_publish_do_not_count_after_it() -> None:
    async def deaths(pool: FailingPool, publish: bool) -> float:
        for version in range(8, 11):
            await texts(pool, 1)
            if publish:
                await pool.load_weights(f"weights-{version}", version, timeout_s=5)
        return pool.metrics()["workers/restarts"]

    def at_its_second_prompt(worker: FailingWorker) -> None:
        """It answers one prompt and dies of the second; its replacement then answers that, and dies of the third."""
        if worker.doing == "generate" and worker.done == 1:
            worker.die()

    pool = FailingPool(at_its_second_prompt, workers=1, max_restarts=1)
    assert run(pool, lambda: deaths(pool, True)) == 2
    other = FailingPool(at_its_second_prompt, workers=1, max_restarts=1)
    with pytest.raises(RolloutError, match="replaced 1 times"):
        run(other, lambda: deaths(other, False))


def test_where_weights_travel_without_a_folder_a_death_ends_the_session() -> None:
    pool = FailingPool(dies(0, "generate"))

    async def story() -> None:
        await pool.freeze(timeout_s=5)
        await pool.thaw(8, timeout_s=5)
        await texts(pool, 4)

    with pytest.raises(WorkerDied, match=r"rollout worker 0 is lost: .* sync\.method: disk"):
        run(pool, story)


def test_an_error_of_the_data_is_no_death() -> None:
    def fault(worker: FailingWorker) -> None:
        if worker.doing == "generate":
            raise DataError("no such image")

    pool = FailingPool(fault)
    with pytest.raises(DataError, match="no such image"):
        run(pool, lambda: texts(pool, 4))
    assert len(pool.started) == 2


def test_an_engine_that_cannot_start_ends_the_run_at_once() -> None:
    def fault(worker: FailingWorker) -> None:
        raise RolloutError("vLLM cannot start: no such model")

    pool = FailingPool(fault)
    with pytest.raises(RolloutError, match="rollout worker 0 does not start: vLLM cannot start: no such model"):
        run(pool, lambda: texts(pool, 1))


def test_a_worker_samples_no_more_than_it_may_at_once() -> None:
    at_once, most = 0, 0

    class Counting(FailingWorker):
        async def generate(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            async for item in super().generate(*args, **kwargs):
                yield item
            at_once -= 1

    pool = FailingPool(workers=1, in_flight=9)
    pool._supervisor.states[0].worker.__class__ = Counting
    assert len(run(pool, lambda: texts(pool, 20))) == 20
    assert most == 2  # 2 groups of 4 fit into 9


def test_a_call_that_is_given_up_frees_its_room() -> None:
    pool = FailingPool(workers=1, in_flight=4)

    async def story() -> dict[int, str]:
        stream = pool.generate(requests(6), FOUR)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        return await texts(pool, 6)

    assert len(run(pool, story)) == 6
    assert pool._supervisor.states[0].load == 0


@settings(deadline=None, max_examples=60)
@given(
    deaths=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 6)), max_size=6),
    count=st.integers(0, 15),
    seed=st.none() | st.integers(0, 5),
)
def test_whichever_workers_die_every_request_is_answered_once(
    deaths: list[tuple[int, int, int]], count: int, seed: int | None
) -> None:
    """Three workers, each of which may die in its first two attempts after some prompts; 3 restarts are enough."""

    def fault(worker: FailingWorker) -> None:
        if worker.doing == "generate" and (worker.number, worker.attempt, worker.done) in deaths:
            worker.die()

    pool, undisturbed = FailingPool(fault, workers=3), FailingPool(workers=3)
    assert run(pool, lambda: texts(pool, count, seed)) == run(undisturbed, lambda: texts(undisturbed, count, seed))


def test_workers_that_are_added_get_the_weights_and_then_work() -> None:
    pool = FailingPool(workers=1, in_flight=4)

    async def story() -> dict[int, str]:
        pool.resize(3)
        while pool.metrics()["workers/alive"] < 3:
            await asyncio.sleep(0.01)
        return await texts(pool, 12)

    assert set(run(pool, story)) == set(range(12))
    assert [worker.folder for worker in pool.started] == ["weights-7"] * 3
    assert min(worker.done for worker in pool.started) > 0
    assert pool.metrics()["workers/restarts"] == 0


def test_workers_that_leave_finish_what_they_have() -> None:
    pool = FailingPool(workers=3)

    async def story() -> dict[int, str]:
        sampling = asyncio.ensure_future(texts(pool, 12))
        while pool.started[2].doing != "generate":
            await asyncio.sleep(0)
        pool.resize(1)
        found = await sampling
        done = [worker.done for worker in pool.started]
        while not (pool.started[1].stopped and pool.started[2].stopped):
            await asyncio.sleep(0.01)
        assert len(await texts(pool, 3)) == 3
        assert [worker.done for worker in pool.started][1:] == done[1:]
        return found

    assert len(run(pool, story)) == 12
    assert len(pool.started) == 3  # no worker was lost or replaced


def test_workers_that_are_still_leaving_are_ended_with_the_others() -> None:
    def fault(worker: FailingWorker) -> None:
        if (worker.number, worker.doing) == (1, "generate"):
            worker.hang()

    pool = FailingPool(fault)

    async def story() -> None:
        sampling = asyncio.ensure_future(texts(pool, 4))
        while pool.started[1].doing != "generate":
            await asyncio.sleep(0)
        pool.resize(1)
        await asyncio.sleep(0)
        assert not pool.started[1].stopped  # it still samples a group
        sampling.cancel()

    run(pool, story)
    assert [(worker.stopped, worker.dead) for worker in pool.started] == [(True, True)] * 2


def test_a_worker_that_cannot_be_added_costs_nothing() -> None:
    pool = FailingPool(dies(1, "start", attempts=9), workers=1)

    async def story() -> dict[int, str]:
        pool.resize(2)
        await asyncio.sleep(0.05)
        return await texts(pool, 4)

    assert len(run(pool, story)) == 4
    assert pool.messages[-1] == "no rollout worker 1 could be added: it died during start"
    assert len(pool.started) == 2
