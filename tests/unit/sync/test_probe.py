"""The proof of a publish: what an engine computes is what the learner computes, or the run stops."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest

from sailrl.errors import WeightSyncError
from sailrl.sync.disk import DiskSync
from sailrl.sync.probe import FLOOR, MARGIN, Difference, Disagreement, Limits, Probe
from sailrl.types import Prompt
from tests.fakes.local import LocalEngine, LocalLearners, OnePool
from tests.fakes.tiny_learner import make_learner, make_prompt, make_samples, make_scope

PROMPTS = [make_prompt([10, 20, 30, 40, 50]), make_prompt([60, 70, 80])]


class SaidByLearner:
    """Says fixed numbers of both prompts, and others by ``rounding`` where it is asked to round otherwise."""

    def __init__(self, said: Sequence[float], rounding: float = 0.0) -> None:
        self.said, self.rounding = list(said), rounding
        self.first_limit: float | None = None

    def prompt_logprobs(self, prompts: Sequence[Prompt], *, rounded: bool = False) -> list[list[float]]:
        return [[value + rounded * self.rounding for value in self.said] for _ in prompts]

    def limit_first_update(self, mean_dlogp: float) -> None:
        assert self.first_limit is None
        self.first_limit = mean_dlogp


class SaidByEngines:
    """One list of numbers per engine, of both prompts."""

    def __init__(self, *said: Sequence[float]) -> None:
        self.said = [list(one) for one in said]

    async def prompt_logprobs(self, prompt: Prompt) -> list[list[float]]:
        return self.said


def probe_of(
    learner: SaidByLearner, *theirs: Sequence[float], dtype: str = "float32", tolerance: float | None = None
) -> Probe:
    return Probe(learner, SaidByEngines(*theirs), PROMPTS, dtype=dtype, tolerance=tolerance)


def check(
    mine: Sequence[float],
    *theirs: Sequence[float],
    rounding: float = 0.0,
    dtype: str = "float32",
    tolerance: float | None = None,
) -> Difference:
    probe = probe_of(SaidByLearner(mine, rounding), *theirs, dtype=dtype, tolerance=tolerance)
    return asyncio.run(probe.check(7))


# --- the numbers ---------------------------------------------------------------------------------------------------


def test_a_difference_has_a_mean_a_percentile_and_a_maximum_over_all_prompts() -> None:
    mine, theirs = [[0.0] * 150, [0.0] * 50], [[0.5] * 1 + [0.1] * 149, [-0.3] * 2 + [0.0] * 48]
    found = Difference.of(mine, theirs)
    # 0.5 + 149 x 0.1 + 2 x 0.3 = 16 over 200 tokens; of 200 values in order the 198th is the first of the 0.3.
    assert (found.mean, found.p99, found.max) == (pytest.approx(0.08), 0.3, 0.5)
    assert found.metrics() == {
        "sync/mean_abs_dlogp": found.mean,
        "sync/p99_abs_dlogp": 0.3,
        "sync/max_abs_dlogp": 0.5,
    }


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_nan_makes_all_of_them_nan_wherever_it_stands(place: int) -> None:
    theirs = [-1.0, -2.0, -3.0]
    theirs[place] = math.nan
    found = Difference.of([[-1.0, -2.0, -3.0]], [theirs])
    assert all(map(math.isnan, (found.mean, found.p99, found.max)))
    assert not Limits("float32", FLOOR["float32"], tolerance=1e9).allow(found)


# --- the limits ----------------------------------------------------------------------------------------------------


def test_agreement_within_the_limits_returns_the_largest_numbers_of_any_engine() -> None:
    found = check([-1.0, -2.0], [-1.0, -2.00005], [-1.00002, -2.0], tolerance=1e-4)
    assert found.max == pytest.approx(5e-5)
    assert found.mean == pytest.approx(2.5e-5)


@pytest.mark.parametrize(("rounding", "limit"), [(1e-3, 4e-3), (0.0, MARGIN * FLOOR["float32"].max)])
def test_in_float32_the_maximum_may_be_some_times_what_rounding_is_measured_to_do(
    rounding: float, limit: float
) -> None:
    check([-1.0, -2.0], [-1.0, -2.0 - 0.99 * limit], rounding=rounding)
    with pytest.raises(Disagreement, match="4 times what rounding does to this model in float32"):
        check([-1.0, -2.0], [-1.0, -2.0 - 1.01 * limit], rounding=rounding)


def test_in_float32_the_configured_tolerance_takes_the_place_of_the_measured_limit() -> None:
    check([-1.0, -2.0], [-1.0, -2.0009], tolerance=1e-3)
    with pytest.raises(Disagreement, match=r"allowed are 0\.0001 at most \(sync\.probe_tolerance\)"):
        check([-1.0, -2.0], [-1.0, -2.0002], rounding=1.0, tolerance=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_mean_and_percentile_are_judged_and_single_tokens_are_not(dtype: str) -> None:
    limits = Limits(dtype, Difference(mean=0.05, p99=0.3, max=0.5), tolerance=1e-9)
    assert limits.allow(Difference(mean=0.19, p99=1.1, max=99.0))
    assert not limits.allow(Difference(mean=0.21, p99=1.1, max=1.2))  # 4 x 0.05
    assert not limits.allow(Difference(mean=0.19, p99=1.3, max=1.3))  # 4 x 0.3
    assert limits.mean == pytest.approx(0.2)
    assert "0.2 on average and 1.2 at the 99th percentile, 4 times" in str(limits)


def test_limits_are_measured_again_before_a_publish_is_refused_and_never_fall() -> None:
    learner = SaidByLearner([-1.0, -2.0], rounding=1e-4)
    probe = probe_of(learner, [-1.0, -2.0003])
    asyncio.run(probe.check(0))
    learner.rounding = 1e-3
    probe._pool.said = [[-1.0, -2.003]]
    asyncio.run(probe.check(1))  # within 4e-3: the model rounds more than it did
    learner.rounding = 0.0
    asyncio.run(probe.check(2))
    probe._pool.said = [[-1.0, -2.005]]
    with pytest.raises(Disagreement):
        asyncio.run(probe.check(3))


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 4e-3), ("bfloat16", MARGIN * FLOOR["bfloat16"].mean)])
def test_the_first_update_is_held_to_the_probes_limit_once(dtype: str, limit: float) -> None:
    learner = SaidByLearner([-1.0, -2.0], rounding=1e-3)
    probe = probe_of(learner, [-1.0, -2.0], dtype=dtype)
    for version in range(2):
        asyncio.run(probe.check(version))
    assert learner.first_limit == pytest.approx(limit)


class DiesBetweenPrompts(SaidByEngines):
    """The first of two engines answers one prompt and is gone."""

    def __init__(self, *said: Sequence[float]) -> None:
        super().__init__(*said)
        self.asked = 0

    async def prompt_logprobs(self, prompt: Prompt) -> list[list[float]]:
        self.asked += 1
        return self.said if self.asked == 1 else self.said[1:]


def test_after_a_death_between_two_prompts_the_engines_that_are_left_are_asked_everything_again() -> None:
    engines = DiesBetweenPrompts([-1.0, -2.5], [-1.0, -2.0])
    probe = Probe(SaidByLearner([-1.0, -2.0]), engines, PROMPTS, dtype="float32", tolerance=1e-4)
    assert asyncio.run(probe.check(7)).max == 0.0  # the dead engine's first answer counts for no other
    assert engines.asked == 4  # two prompts, twice


# --- what a refusal says -------------------------------------------------------------------------------------------


def test_one_token_of_one_engine_beyond_the_limit_stops_the_run_with_all_numbers() -> None:
    with pytest.raises(Disagreement) as caught:
        check([-1.0, -2.0], [-1.0, -2.0], [-1.0, -2.0002], tolerance=1e-4)
    # Two prompts of two tokens: the mean is half of the difference.
    assert str(caught.value) == (
        "rollout worker 1 does not compute what the learner does with version 7 of the weights: the log-probabilities "
        "of 4 tokens of fixed prompts differ by 0.0001 nats on average, 0.0002 at the 99th percentile, 0.0002 at most; "
        "allowed are 0.0001 at most (sync.probe_tolerance)."
    )
    assert (caught.value.worker, caught.value.theirs, caught.value.close) == (1, [-1.0, -2.0002], True)
    assert caught.value.prompt in PROMPTS


def test_what_is_more_than_ten_times_the_limit_is_not_close() -> None:
    with pytest.raises(Disagreement) as caught:
        check([-1.0, -2.0], [-1.0, -2.002], tolerance=1e-4)
    assert not caught.value.close
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_never_passes(value: float) -> None:
    with pytest.raises(WeightSyncError):
        check([-1.0, -2.0], [-1.0, value], tolerance=1e9)


@pytest.mark.parametrize("mine", [-1.0, math.nan])
def test_weights_that_give_no_numbers_are_called_broken(mine: float) -> None:
    with pytest.raises(WeightSyncError, match="the weights themselves are broken") as caught:
        check([mine, -2.0], [math.nan, -2.0])
    assert not isinstance(caught.value, Disagreement)  # there is no cause to look for


def test_an_engine_that_sees_a_prompt_of_another_length_has_another_template() -> None:
    with pytest.raises(WeightSyncError, match="template differs: rollout worker 0 sees 4 tokens of a prompt of 3"):
        check([-1.0, -2.0], [-1.0, -2.0, -3.0])


# --- with a real model ---------------------------------------------------------------------------------------------


def test_a_publish_is_proved_and_its_absence_noticed(tiny_folder: Path) -> None:
    learners, pool = LocalLearners(make_learner(tiny_folder)), OnePool(LocalEngine(tiny_folder))
    sync = DiskSync(learners, pool, timeout_s=10)
    probe = Probe(learners, pool, PROMPTS, dtype="float32", tolerance=None)
    asyncio.run(sync.publish(0))
    asyncio.run(probe.check(0))
    samples = make_samples(4)
    learners.limit_first_update(100.0)  # the samples are made up, and no engine's
    learners.set_episode(samples, [range(4)])
    learners.learner.update(range(4), make_scope(samples))
    with pytest.raises(Disagreement):  # the learner moved on, the engine was told nothing
        asyncio.run(probe.check(1))
    asyncio.run(sync.publish(1))
    assert asyncio.run(probe.check(1)).max < 1e-5
    sync.close()


# --- a worker that comes later -------------------------------------------------------------------------------------


def prove(*theirs: float, version: int = 7) -> bool:
    """A worker that joins after version 7 was proved, when the learner has already learned on."""
    learner = SaidByLearner([-1.0, -2.0])
    probe = probe_of(learner, [-1.0, -2.0], tolerance=1e-4)

    async def story() -> bool:
        await probe.check(7)
        learner.said = [-5.0, -5.0]

        async def ask(prompt: Prompt) -> list[float]:
            return list(theirs)

        return await probe.prove(3, version, ask)

    return asyncio.run(story())


def test_a_worker_that_comes_late_is_proved_by_what_the_learner_said_at_the_publish() -> None:
    assert prove(-1.0, -2.00005)
    with pytest.raises(WeightSyncError, match=r"rollout worker 3 .* version 7 .* It took the place of another"):
        prove(-1.0, -2.0002)
    with pytest.raises(WeightSyncError, match="rollout worker 3"):
        prove(-5.0, -5.0)  # the learner's weights of now are not those that were published


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_late_worker_whose_numbers_are_none_is_not_proved(value: float) -> None:
    with pytest.raises(WeightSyncError):
        prove(-1.0, value)


def test_a_worker_that_comes_while_the_first_limits_are_measured_has_to_wait() -> None:
    learner = SaidByLearner([-1.0, -2.0])
    proved: list[bool] = []

    async def ask(prompt: Prompt) -> list[float]:
        return [-1.0, -2.0]

    class Measures(SaidByLearner):
        def prompt_logprobs(self, prompts: Sequence[Prompt], *, rounded: bool = False) -> list[list[float]]:
            if rounded:
                proved.append(asyncio.run(probe.prove(3, 7, ask)))
            return learner.prompt_logprobs(prompts)

    probe = probe_of(Measures([-1.0, -2.0]), [-1.0, -2.0])
    asyncio.run(probe.check(7))
    assert proved == [False]
    assert asyncio.run(probe.prove(3, 7, ask))


def test_a_version_the_learner_was_not_asked_about_proves_nothing() -> None:
    assert not prove(-1.0, -2.0, version=8)
