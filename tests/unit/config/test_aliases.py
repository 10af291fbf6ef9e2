"""A key that was learned with another trainer is answered with ours, by what it means and not by how it is spelt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sailrl.config.aliases import ALIASES
from sailrl.config.kinds import KINDS
from sailrl.config.load import load_config
from sailrl.config.messages import all_keys
from sailrl.config.yaml_text import dotted
from sailrl.errors import ConfigError

MINIMAL = {
    "rlvr": "kind: rlvr\nmodel: {path: a/b}\ndata: {train: {path: x.jsonl}}\n"
    "rewards: {parts: {boxed: {use: 'rewards.boxed:BoxedAnswer', weight: 1.0}}}\n",
    "sft": "kind: sft\nmodel: {path: a/b}\ndata: {train: {path: x.jsonl}}\n",
    "eval": "kind: eval\nmodels: {a: {path: a/b}}\ndata: {problems: {path: x.jsonl}}\n"
    "rewards: {parts: {boxed: {use: 'rewards.boxed:BoxedAnswer', weight: 1.0}}}\n",
}


def told(folder: Path, kind: str, *overrides: str) -> str:
    (folder / "c.yaml").write_text(MINIMAL[kind])
    load_config(folder / "c.yaml")  # nothing is wrong without the overrides
    with pytest.raises(ConfigError) as error:
        load_config(folder / "c.yaml", overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("kind", "override", "hint"),
    [
        ("rlvr", "training.lr=1e-6", "Did you mean `learner.learning_rate` for `training.lr`?"),
        ("rlvr", "training.learning_rate=1e-6", "`learner.learning_rate` for `training.learning_rate`"),
        ("rlvr", "lr=1e-6", "Did you mean `learner.learning_rate`?"),
        ("rlvr", "learner.lr=1e-6", "the section learner has no key `lr`. Did you mean `learning_rate`?"),
        ("sft", "training.lr=1e-6", "Did you mean `learning_rate`?"),
        ("sft", "learner.lr=1e-6", "the section learner has no key `lr`. Did you mean `training.learning_rate`?"),
        ("sft", "learner.activation_checkpointing=true", "Write it as `training.activation_checkpointing`."),
        ("sft", "optim.LR=1e-6", "`training.learning_rate` for `optim.LR`"),
        ("rlvr", "batch.batch_size=64", "Did you mean `rollouts_per_update`?"),
        ("sft", "training.batch_size=64", "Did you mean `rows_per_step`?"),
        ("rlvr", "trainer.num_epochs=3", "`batch.episodes` for `trainer.num_epochs`"),
        ("sft", "num_train_epochs=3", "Did you mean `training.epochs`?"),
        ("rlvr", "max_length=4096", "Did you mean `rollout.max_response_tokens`?"),
        ("sft", "max_length=4096", "Did you mean `data.max_tokens`?"),
        ("rlvr", "actor_rollout_ref.temperature=1", "`rollout.temperature` for `actor_rollout_ref.temperature`"),
        ("eval", "sampling_params.temperature=1", "`temperature` for `sampling_params.temperature`"),
        ("rlvr", "batch.num_generations=8", "Did you mean `group_size`?"),
        ("rlvr", "trainer.save-freq=8", "`checkpoint.every_episodes` for `trainer.save-freq`"),
        ("rlvr", "vllm.gpu_memory_utilization=0.5", "`rollout.engine.gpu_memory_utilization` for `vllm.gpu_memory"),
        ("rlvr", "learnr.lr=1e-6", "Did you mean `learner`?"),  # a misspelt section
    ],
)
def test_a_key_of_another_trainer_is_answered_by_its_meaning(
    tmp_path: Path, kind: str, override: str, hint: str
) -> None:
    text = told(tmp_path, kind, override)
    assert hint in text
    assert "data.train`" not in text


def test_several_keys_of_a_strange_section_are_answered_together(tmp_path: Path) -> None:
    text = told(tmp_path, "rlvr", "training.lr=1", "training.num_epochs=2", "training.mystery=3")
    assert "`learner.learning_rate` for `training.lr`, `batch.episodes` for `training.num_epochs`?" in text


def test_a_section_of_which_nothing_is_known_gets_the_list_of_sections(tmp_path: Path) -> None:
    text = told(tmp_path, "rlvr", "zzz.mystery=3")
    assert "Did you mean" not in text
    assert "It has kind, run, placement" in text


@pytest.mark.parametrize(("name", "targets"), ALIASES.items(), ids=list(ALIASES))
def test_every_alias_names_keys_that_exist_and_is_none_itself_at_its_target(
    name: str, targets: tuple[str, ...]
) -> None:
    keys: dict[str, Any] = {kind: {dotted(path) for path in all_keys(model)} for kind, model in KINDS.items()}
    assert all(any(target in known for known in keys.values()) for target in targets)
    assert name == name.lower()
