"""The same loop with generation going on while the learner learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.local_run import LocalRun, make_config


def _config(episodes: int = 6, staleness: int = 1) -> Any:
    return make_config(
        run={"deterministic": False},
        batch={"episodes": episodes, "rollouts_per_update": 16, "passes_per_episode": 1},
        rollout={"max_staleness": staleness},
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    return LocalRun(_config(), tmp_path_factory.mktemp("run"), tiny_folder).train()


def test_every_episode_is_full_and_within_the_bound(finished: LocalRun) -> None:
    updates = [line for line in _rows(finished.run_dir / "metrics.jsonl") if "grad_norm" in line]
    assert [line["episode"] for line in updates] == [1, 2, 3, 4, 5, 6]
    assert all(line["groups/kept"] == 4 for line in updates)
    assert {line["staleness/max"] for line in updates} <= {0, 1}
    assert updates[0]["staleness/max"] == 0


def test_responses_of_older_weights_are_learned_from_and_their_age_is_logged(finished: LocalRun) -> None:
    kept = [row for row in _rows(finished.run_dir / "rollouts.jsonl") if row["kept"]]
    assert len(kept) == 6 * 16
    assert {row["staleness"] for row in kept} == {0, 1}
    assert all(row["episode"] - 1 - row["version"] == row["staleness"] for row in kept)


def test_the_correction_sees_how_far_the_policy_has_moved(finished: LocalRun) -> None:
    """pi_old is the learner's at the start of the episode, so engine and learner differ by what was learned since:
    by nothing where all responses are fresh, by much more than rounding where some are old."""
    updates = [line for line in _rows(finished.run_dir / "metrics.jsonl") if "grad_norm" in line]
    assert updates[0]["mismatch/max_abs_dlogp"] < 1e-4
    assert all((line["mismatch/max_abs_dlogp"] > 1e-3) == (line["staleness/max"] > 0) for line in updates)
    assert all(line["ratio/max"] == pytest.approx(1.0, abs=1e-5) for line in updates)  # one update: on the proximal one


def test_a_resumed_run_completes_every_episode_and_uses_no_group_twice(tiny_folder: Path, tmp_path: Path) -> None:
    LocalRun(_config(episodes=2), tmp_path, tiny_folder).train()
    resumed = LocalRun(_config(episodes=5), tmp_path, tiny_folder).train()
    assert resumed.session.state.episode == 5
    rows = _rows(tmp_path / "rollouts.jsonl")
    assert sorted({(row["episode"], row["group"]) for row in rows if row["kept"]}) == [
        (episode, group) for episode in range(1, 6) for group in range(4)
    ]
    assert len([row for row in rows if row["kept"]]) == 5 * 16
    # Whatever was drawn from the 12 problems is in the log or still waiting.
    drawn = list(dict.fromkeys((row["episode"], row["group"], row["id"]) for row in rows))
    waiting = len(resumed.session.collector.state_dict()["backlog"])
    source = resumed.session.collector.state_dict()["source"]
    assert len(drawn) + waiting == source["epoch"] * 12 + source["position"]
