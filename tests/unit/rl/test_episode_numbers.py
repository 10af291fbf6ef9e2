"""The arithmetic of an episode, by hand."""

from __future__ import annotations

import math

import pytest

from sailrl.config.losses import Dapo
from sailrl.config.rewards import RewardsConfig
from sailrl.rl.checkpoints import RunState
from sailrl.rl.episode import advantages, episode_metrics
from sailrl.rollout.collect import Collection
from sailrl.types import Completion, Group, Problem, Prompt, Rollout, Score

REWARDS = RewardsConfig.model_validate(
    {"parts": {"boxed": {"use": "a:b", "weight": 0.9}, "format": {"use": "a:c", "weight": 0.1}}}
)


def _rollout(accuracy: float | None, reward: float | None, *, tokens: int = 2, version: int = 3) -> Rollout:
    boxed = Score(accuracy) if accuracy is not None else Score(None, "timed_out", "deadline")
    completion = Completion([1] * tokens, [-0.5] * tokens, "", "length" if tokens > 4 else "stop", version)
    return Rollout(completion, {"boxed": boxed, "format": Score(1.0)}, reward)


def _group(*rollouts: Rollout) -> Group:
    return Group(Prompt(Problem(prompt="?"), [1], [1]), rollouts)


def test_advantages_are_relative_to_their_own_group() -> None:
    groups = [
        _group(_rollout(1, 1.0), _rollout(0, 0.0)),
        _group(_rollout(1, 5.0), _rollout(1, 5.0), _rollout(0, 2.0)),
    ]
    first, second = advantages(groups, Dapo(), REWARDS)
    # group 1: mean 0.5, standard deviation (n - 1) sqrt(0.5) = 0.7071; 0.5 / 0.7071 = 0.7071
    assert first == pytest.approx([0.70711, -0.70711], abs=1e-4)
    # group 2: mean 4, deviations 1, 1, -2, standard deviation sqrt(6 / 2) = 1.7321
    assert second == pytest.approx([0.57735, 0.57735, -1.15470], abs=1e-4)


def test_without_dividing_by_the_standard_deviation_the_differences_stay() -> None:
    groups = [_group(_rollout(1, 5.0), _rollout(1, 5.0), _rollout(0, 2.0))]
    assert advantages(groups, Dapo(normalize_std=False), REWARDS) == [[1.0, 1.0, -2.0]]


def test_rewards_may_be_normalised_one_by_one() -> None:
    """GDPO: "right" is rare, so it counts as much as its weight says, whatever the format does."""

    def rollout(boxed: float, form: float) -> Rollout:
        made = _rollout(boxed, 0.9 * boxed + 0.1 * form)
        return Rollout(made.completion, {"boxed": Score(boxed), "format": Score(form)}, made.reward)

    group = _group(rollout(1, 0), rollout(0, 1), rollout(0, 0), _rollout(None, None))
    # boxed: mean 1/3, std sqrt((4/9 + 1/9 + 1/9) / 2) = 0.57735: 1.15470, -0.57735, -0.57735; format alike, at another
    # place: -0.57735, 1.15470, -0.57735. 0.9 of one and 0.1 of the other: 0.98150, -0.40415, -0.57735; their mean is 0
    # and their std sqrt((0.96334 + 0.16334 + 0.33333) / 2) = 0.85440. Without a score there is no advantage.
    (found,) = advantages([group], Dapo(normalize_each=True), REWARDS)
    assert found == pytest.approx([1.14876, -0.47302, -0.67574, 0.0], abs=1e-4)
    # Normalising the sum, 0.9, 0.1 and 0, is another thing: the last two are nearly alike.
    assert advantages([group], Dapo(), REWARDS)[0] == pytest.approx([1.14851, -0.47291, -0.67558, 0.0], abs=1e-2)


def test_an_unscored_response_has_no_part_in_its_group() -> None:
    """It is no 0: the others are compared as if it were not there."""
    with_it = _group(_rollout(1, 1.0), _rollout(None, None), _rollout(0, 0.0))
    assert advantages([with_it], Dapo(), REWARDS)[0] == pytest.approx([0.70711, 0.0, -0.70711], abs=1e-4)


def test_metrics_are_over_all_groups_dropped_ones_too() -> None:
    kept = _group(_rollout(1, 1.0, tokens=2), _rollout(0, 0.1, tokens=4, version=1))
    dropped = _group(_rollout(0, 0.1, tokens=6), _rollout(None, None, tokens=8, version=0))
    episode = Collection(kept=[kept], dropped=[(dropped, "all_wrong")], waves=1)
    values = episode_metrics(episode, RunState(episode=2, version=3), REWARDS)
    assert values["accuracy"] == pytest.approx(1 / 3)  # one of three that have a score
    assert values["reward/mean"] == pytest.approx(1.2 / 3)
    assert values["reward/boxed"] == pytest.approx(1 / 3)
    assert values["reward/format"] == 1.0
    assert values["response_tokens/mean"] == 5.0  # (2 + 4 + 6 + 8) / 4
    assert values["response_tokens/max"] == 8.0
    assert values["truncated_fraction"] == 0.5
    assert values["unscored_fraction"] == 0.25
    assert values["staleness/max"] == 2.0  # version 3 learns from what version 1 wrote; what is dropped does not count
    assert values["staleness/mean"] == 1.0  # (0 + 2) / 2
    assert (values["episode"], values["version"]) == (2.0, 3.0)
    assert values["groups/dropped_all_wrong"] == 1.0


def test_accuracy_is_the_share_of_right_responses_and_partial_credit_counts_for_its_reward_only() -> None:
    episode = Collection(kept=[_group(_rollout(1, 1.0), _rollout(0.5, 0.5), _rollout(0.9, 0.9), _rollout(0, 0.0))])
    values = episode_metrics(episode, RunState(), REWARDS)
    assert values["accuracy"] == 0.25
    assert values["reward/boxed"] == pytest.approx(0.6)  # (1 + 0.5 + 0.9 + 0) / 4


def test_a_reward_that_never_scored_has_no_mean() -> None:
    episode = Collection(kept=[_group(_rollout(None, None), _rollout(None, None))])
    assert math.isnan(episode_metrics(episode, RunState(), REWARDS)["accuracy"])
