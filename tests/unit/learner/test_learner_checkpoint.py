"""A learner's state on disk: what is read back continues bit for bit, and what is damaged is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from sailrl.errors import CheckpointError
from sailrl.learner.checkpoint import writing
from sailrl.learner.learner import Learner
from tests.fakes.tiny_learner import make_learner, make_samples, make_scope, same, weights


def _learn(learner: Learner, updates: range) -> None:
    for number in updates:
        samples = make_samples(4, seed=number)
        learner.set_episode(samples)
        learner.update(range(4), make_scope(samples))


def _saved(folder: Path, tiny_folder: Path) -> Learner:
    learner = make_learner(tiny_folder, warmup_updates=4)
    _learn(learner, range(2))
    learner.save(folder)
    return learner


def test_a_restored_learner_continues_bit_for_bit(tiny_folder: Path, tmp_path: Path) -> None:
    learner = _saved(tmp_path, tiny_folder)
    expected_noise = torch.rand(3)
    _learn(learner, range(2, 4))

    torch.manual_seed(12345)
    resumed = make_learner(tmp_path / "model", warmup_updates=4)
    resumed.restore(tmp_path)
    assert torch.equal(torch.rand(3), expected_noise)
    _learn(resumed, range(2, 4))
    assert same(weights(resumed), weights(learner))
    assert resumed.updates == learner.updates == 4
    for mine, theirs in zip(resumed.policy.parameters(), learner.policy.parameters(), strict=True):
        a, b = resumed.optimizer.state[mine], learner.optimizer.state[theirs]
        assert a.keys() == b.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_weights_alone_do_not_continue_bit_for_bit(tiny_folder: Path, tmp_path: Path) -> None:
    learner = _saved(tmp_path, tiny_folder)
    _learn(learner, range(2, 4))
    forgetful = make_learner(tmp_path / "model", warmup_updates=4)  # no Adam moments, no count of updates
    _learn(forgetful, range(2, 4))
    assert not same(weights(forgetful), weights(learner))


def test_the_saved_model_loads_in_transformers_as_it_is(tiny_folder: Path, tmp_path: Path) -> None:
    learner = _saved(tmp_path, tiny_folder)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert same(dict(model.named_parameters()), weights(learner))
    assert model.config.use_cache is not None


def test_a_checkpoint_holds_nothing_that_can_run_code(tiny_folder: Path, tmp_path: Path) -> None:
    _saved(tmp_path, tiny_folder)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".safetensors", ".json"}


@pytest.mark.parametrize("name", ["learner-000-00001.safetensors", "generators.safetensors", "learner.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "noise"])
def test_a_damaged_checkpoint_is_refused_in_words(tiny_folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    _saved(tmp_path, tiny_folder)
    file = tmp_path / name
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "noise": b"\xff" * len(whole)}[damage])
    resumed = make_learner(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"cannot be resumed: .+ Remove it to fall back on an older one"):
        resumed.restore(tmp_path)


def test_a_state_without_its_count_or_generator_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    _saved(tmp_path, tiny_folder)
    save_file({}, tmp_path / "generators.safetensors")
    with pytest.raises(CheckpointError, match="rng_state"):
        make_learner(tmp_path / "model").restore(tmp_path)
    (tmp_path / "learner.json").write_text(json.dumps([]))
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        make_learner(tmp_path / "model").restore(tmp_path)


def test_the_state_of_another_model_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    from sailrl.demo import tiny_text

    tiny_text.build(tmp_path / "deeper", hidden_size=32, layers=2)
    learner = make_learner(tmp_path / "deeper")
    _learn(learner, range(1))
    learner.save(tmp_path)
    with pytest.raises(CheckpointError, match=r"layers\.1\..*does not have"):
        make_learner(tiny_folder).restore(tmp_path)

    tiny_text.build(tmp_path / "wider", hidden_size=64, layers=2)
    with pytest.raises(CheckpointError, match="shape"):
        make_learner(tmp_path / "wider").restore(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device without room")
def test_a_full_disk_is_named_with_the_folder_and_the_room_left(tiny_folder: Path, tmp_path: Path) -> None:
    learner = make_learner(tiny_folder)
    (tmp_path / "learner.json").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left.* GiB free") as caught:
        learner.save(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # it crosses processes as it is


def test_what_safetensors_cannot_write_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"I/O error.* GiB free"), writing(tmp_path):
        raise SafetensorError("I/O error: no room")
