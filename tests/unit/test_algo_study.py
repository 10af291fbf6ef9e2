"""The algorithm study reads its numbers off the runs' metrics as its description says."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.algos import VARIANTS, Outcome, _config, _gain, _outcome


def _run(*accuracies: float) -> list[dict[str, Any]]:
    """The metrics of a run of 8 updates per episode that kept 2 groups of 8 and dropped 1."""
    lines: list[dict[str, Any]] = [{"step": 0, "eval/accuracy": accuracies[0]}]
    for episode, accuracy in enumerate(accuracies[1:], start=1):
        for step in range(8 * episode - 7, 8 * episode + 1):
            lines.append({"step": step, "episode": episode, "groups/kept": 2, "groups/dropped": 1})
        lines.append({"step": 8 * episode, "eval/accuracy": accuracy})
    return lines


def test_updates_to_the_target_lie_on_the_line_between_two_evaluations() -> None:
    run = _outcome(_run(0.1, 0.2, 0.4, 0.2, 0.5), 0.35)
    assert run.reached == pytest.approx(14)  # 8 + 8 * 0.15 / 0.2, and not the second crossing
    assert run.accuracies == (0.1, 0.2, 0.4, 0.2, 0.5)
    assert run.rollouts == pytest.approx(0.096)  # 4 episodes x 3 groups x 8


def test_a_run_below_the_target_never_reached_it() -> None:
    assert _outcome(_run(0.1, 0.2, 0.29), 0.3).reached is None


def _ended(accuracy: float) -> Outcome:
    return Outcome((0.1, accuracy - 0.02, accuracy, accuracy + 0.02), None, 1.0)


def test_variants_are_compared_seed_by_seed() -> None:
    base = {0: _ended(0.30), 1: _ended(0.40), 2: _ended(0.50)}
    better = {0: _ended(0.33), 1: _ended(0.44), 2: _ended(0.55)}
    # +3, +4 and +5: mean 4, standard deviation 1, so 4.30 / sqrt(3) = 2.5; the bases' own spread does not count
    assert _gain(better, base) == " +4.0 +-  2.5 *"
    assert _gain({0: _ended(0.33), 2: _ended(0.48)}, base) == " +0.5 +- 31.8  "  # +3 and -2: 12.71 * 3.54 / sqrt(2)


def test_one_common_seed_is_no_comparison() -> None:
    assert _gain({0: _ended(0.5)}, {0: _ended(0.1), 1: _ended(0.1)}) == ""


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_a_valid_configuration_and_differs_from_the_others(name: str) -> None:
    def config(name: str) -> Any:
        model, overrides = VARIANTS[name]
        return _config(model, overrides, seed=1, episodes=2)

    assert sum(config(other) == config(name) for other in VARIANTS) == 1
