"""What a start runs with is written down, what differs is said, and what was typed once holds for later starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sailrl.config.load import load
from sailrl.config.schema import JobConfig, RlvrConfig
from sailrl.errors import CheckpointError, ConfigError
from sailrl.launch.run_folder import RESOLVED
from sailrl.launch.sealed import CHECKPOINTS
from sailrl.launch.starts import STARTS, UNTYPED, Continuation, Start, differences, in_force, refuse_other_kind

FILE: dict[str, Any] = {
    "kind": "rlvr",
    "model": {"path": "org/model"},
    "data": {"train": {"path": "train.jsonl"}},
    "rewards": {"parts": {"boxed": {"use": "rewards.boxed:BoxedAnswer", "weight": 1.0}}},
    "batch": {"episodes": 1},
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in the folder one runs from."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(FILE))
    return file


def begun(path: Path, *overrides: str, saved: bool = True) -> list[str]:
    """Starts the run with what is in force, perhaps up to a checkpoint; everything that was in force."""
    typed = in_force(path, overrides)
    texts = [one.text for one in typed]
    folder = Path("runs/c")
    folder.mkdir(parents=True, exist_ok=True)
    Start(typed=typed).begins(load(path, texts).config, folder)
    if saved:
        (folder / CHECKPOINTS / "episode-000001").mkdir(parents=True, exist_ok=True)
    return texts


def edited(path: Path, **changes: Any) -> None:
    path.write_text(yaml.safe_dump(FILE | changes))


# --- what was typed -------------------------------------------------------------------------------------------------


def test_what_was_typed_at_one_start_holds_for_the_next(path: Path) -> None:
    begun(path, "batch.episodes=2", "checkpoint.keep=1")
    assert begun(path) == ["batch.episodes=2", "checkpoint.keep=1"]
    assert begun(path, "learner.learning_rate=5e-5") == [
        "batch.episodes=2",
        "checkpoint.keep=1",
        "learner.learning_rate=5e-5",
    ]


def test_what_is_typed_again_takes_the_place_of_what_was(path: Path) -> None:
    begun(path, "batch.episodes=2", "checkpoint.keep=1")
    assert begun(path, "batch.episodes=3") == ["checkpoint.keep=1", "batch.episodes=3"]
    assert begun(path) == ["checkpoint.keep=1", "batch.episodes=3"]


def test_a_section_that_is_typed_replaces_what_was_typed_inside_it(path: Path) -> None:
    begun(path, "batch.episodes=2", "batch.group_size=4", "run.seed=1")
    assert begun(path, "batch={episodes: 5}") == ["run.seed=1", "batch={episodes: 5}"]
    assert begun(path, "batch.episodes=6") == ["run.seed=1", "batch={episodes: 5}", "batch.episodes=6"]


def test_a_value_that_was_edited_in_the_file_wins_over_what_was_typed_before(path: Path) -> None:
    begun(path, "batch.episodes=2", "learner.learning_rate=5e-5")
    edited(path, batch={"episodes": 7})
    assert begun(path) == ["learner.learning_rate=5e-5"]  # of which the file still says nothing
    edited(path, batch={"episodes": 7}, learner={"learning_rate": 1e-4})
    assert begun(path) == []


def test_an_edit_elsewhere_in_the_file_changes_nothing_of_it(path: Path) -> None:
    begun(path, "batch.episodes=2")
    edited(path, batch={"episodes": 1, "group_size": 4})
    assert begun(path) == ["batch.episodes=2"]


def test_a_run_without_a_checkpoint_begins_anew(path: Path) -> None:
    begun(path, "batch.episodes=2", saved=False)
    assert begun(path) == []


def test_another_run_folder_knows_nothing_of_it(path: Path) -> None:
    begun(path, "batch.episodes=2")
    assert [one.text for one in in_force(path, ["run.dir=runs/other"])] == ["run.dir=runs/other"]


def test_the_run_folder_may_stand_in_the_file(path: Path) -> None:
    edited(path, run={"dir": "runs/c"})
    begun(path, "batch.episodes=2")
    assert begun(path) == ["batch.episodes=2"]


# --- what is written down -------------------------------------------------------------------------------------------


def config_of(path: Path, *overrides: str) -> JobConfig:
    return load(path, overrides).config


def test_every_start_is_kept_and_the_latest_is_the_resolved_one(path: Path, tmp_path: Path) -> None:
    first, second = config_of(path), config_of(path, "learner.learning_rate=5e-5")
    UNTYPED.begins(first, tmp_path, episode=0)
    UNTYPED.begins(second, tmp_path, episode=2)
    assert load(tmp_path / RESOLVED).config == second
    lines = [json.loads(line) for line in (tmp_path / STARTS).read_text().splitlines()]
    assert [line["episode"] for line in lines] == [0, 2]
    assert [type(first).model_validate(line["settings"]) for line in lines] == [first, second]


def test_a_job_of_another_kind_gets_a_folder_of_its_own(path: Path, tmp_path: Path) -> None:
    refuse_other_kind(config_of(path), tmp_path)
    UNTYPED.begins(config_of(path), tmp_path)
    refuse_other_kind(config_of(path), tmp_path)
    path.write_text(yaml.safe_dump({"kind": "sft", "model": FILE["model"], "data": FILE["data"]}))
    with pytest.raises(ConfigError, match="holds a job of kind rlvr, and this one is of kind sft"):
        refuse_other_kind(config_of(path), tmp_path)


def test_what_differs_from_the_last_start_is_named_with_both_values(path: Path, tmp_path: Path) -> None:
    assert UNTYPED.changes(config_of(path), tmp_path) == {}
    UNTYPED.begins(config_of(path), tmp_path)
    assert UNTYPED.changes(config_of(path), tmp_path) == {}
    other = config_of(path, "learner.learning_rate=5e-5", "rewards.parts.fmt={use: 'a:b'}", "model.lora={rank: 4}")
    changes = UNTYPED.changes(other, tmp_path)
    assert changes.pop("model.lora").startswith('null -> {"rank": 4, ')
    assert changes.pop("rewards.parts.fmt").startswith('nothing -> {"use": "a:b", ')
    assert changes == {"learner.learning_rate": "1e-06 -> 5e-05"}


def test_a_stage_is_compared_as_it_is_written_since_addresses_change_with_every_start(
    path: Path, tmp_path: Path
) -> None:
    start = Start(written=config_of(path))
    start.begins(config_of(path, "run.seed=1"), tmp_path)
    assert start.changes(config_of(path, "run.seed=2"), tmp_path) == {}


def test_a_setting_that_the_last_start_did_not_know_counts_once_it_is_not_the_default(
    path: Path, tmp_path: Path
) -> None:
    UNTYPED.begins(config_of(path), tmp_path)
    line = json.loads((tmp_path / STARTS).read_text())
    for section, name in (("learner", "grad_clip"), ("batch", "episodes")):  # as if these were new
        del line["settings"][section][name]
    (tmp_path / STARTS).write_text(json.dumps(line) + "\n")
    assert UNTYPED.changes(config_of(path, "batch.episodes=100"), tmp_path) == {}
    assert UNTYPED.changes(config_of(path), tmp_path) == {"batch.episodes": "nothing -> 1"}


def test_differences_are_of_values_not_of_their_order() -> None:
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}) == {}
    assert differences({"a": {"b": 1}}, {"a": {"b": 1.5}, "d": [1]}) == {"a.b": "1 -> 1.5", "d": "nothing -> [1]"}
    assert differences({"d": "x" * 100}, {})["d"] == "x" * 77 + "... -> nothing"


# --- what is refused ------------------------------------------------------------------------------------------------

SAVED = {"model.content": "ab", "batch.group_size": 8, "rewards.parts": {"boxed": {"weight": 0.9}}}


def going_on(start: Start = UNTYPED) -> Continuation:
    config = RlvrConfig.model_validate(FILE)
    return Continuation(start, config, Path("nowhere"), Path("runs/c/checkpoints/e"), SAVED, ("model.content",))


def refusal(now: dict[str, Any], start: Start = UNTYPED, **changes: str) -> str:
    run = going_on(start)
    run.changes |= changes
    with pytest.raises(CheckpointError) as refused:
        run.compare(now)
    return str(refused.value)


def test_the_same_experiment_goes_on() -> None:
    run = going_on()
    run.compare(dict(SAVED))
    assert run.changes == {}


def test_another_experiment_is_refused_with_all_that_differs_and_the_way_on() -> None:
    now = SAVED | {"rewards.parts": {"boxed": {"weight": 0.1}}}
    assert refusal(now, rate="1 -> 2") == (
        "runs/c/checkpoints/e belongs to another experiment than the one asked for:\n"
        "  rewards.parts.boxed.weight: 0.9 -> 0.1\n"
        "  rate: 1 -> 2\n"
        "Put back rewards.parts.boxed.weight, begin a run of its own with another run.dir, or go on all the same with "
        "--allow-changes."
    )


def test_a_change_that_is_allowed_goes_on_and_is_said() -> None:
    run, said = going_on(Start(allow_changes=True)), list[str]()
    run.compare(SAVED | {"batch.group_size": 4})
    run.say_changes(said.append)
    assert said == ["changed since the last start: batch.group_size: 8 -> 4"]


def test_another_model_is_refused_whatever_is_allowed() -> None:
    message = refusal(SAVED | {"model.content": "cd"}, Start(allow_changes=True))
    assert "model.content cannot change" in message
    assert "--allow-changes" not in message


def test_only_what_is_known_yet_is_compared() -> None:
    going_on().compare({"batch.group_size": 8})


def test_a_run_without_a_checkpoint_is_compared_with_nothing(path: Path, tmp_path: Path) -> None:
    UNTYPED.begins(config_of(path), tmp_path)
    run = Continuation(UNTYPED, config_of(path, "run.seed=1"), tmp_path, None, {}, ("model.content",))
    run.compare({"model.content": "ab"})
    assert run.changes == {}
    for _ in range(2):  # a run that restarts by itself has begun once
        run.begins(episode=0)
    assert len((tmp_path / STARTS).read_text().splitlines()) == 2
