"""A whole run with an adapter: the engine answers with the merged weights, and a stopped run goes on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from tests.fakes.local_run import LocalRun, make_config
from tests.fakes.tiny_learner import same, weights
from tests.unit.rl.test_loop import Killed, Stop, lines


def config() -> Any:
    return make_config(model={"lora": {"rank": 4, "alpha": 8}}, checkpoint={"every_episodes": 1})


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    return LocalRun(config(), tmp_path_factory.mktemp("lora"), tiny_folder).train()


def test_the_engine_computes_with_the_merged_weights_after_every_publish(finished: LocalRun) -> None:
    updates = [line for line in lines(finished.run_dir) if "reward/mean" in line]
    proofs = [line["sync/max_abs_dlogp"] for line in updates if "sync/max_abs_dlogp" in line]
    assert len(proofs) == 3  # episodes
    assert max(proofs) < 1e-4
    # The first update of an episode is on responses of freshly published weights.
    assert max(line["mismatch/max_abs_dlogp"] for line in updates[0::4]) < 1e-4


def test_the_model_in_the_checkpoint_has_the_adapter_merged_and_the_base_is_as_it_was(
    finished: LocalRun, tiny_folder: Path
) -> None:
    saved: Any = AutoModelForCausalLM.from_pretrained(finished.run_dir / "checkpoints" / "episode-000003" / "model")
    base: Any = AutoModelForCausalLM.from_pretrained(tiny_folder)
    name = "model.layers.0.mlp.up_proj"
    plain, merged = base.get_submodule(name).weight, saved.get_submodule(name).weight
    assert (merged - plain).abs().max() > 1e-3
    assert (finished.learners.learner.policy.model.get_submodule(name).base_layer.weight == plain).all()
    embeddings = saved.get_input_embeddings().weight, base.get_input_embeddings().weight
    assert (embeddings[0] == embeddings[1]).all()  # no target of the adapter


def test_a_stopped_run_goes_on_with_its_adapter_bit_for_bit(
    tiny_folder: Path, tmp_path: Path, finished: LocalRun
) -> None:
    with pytest.raises(Stop):
        Killed(6, config(), tmp_path, tiny_folder).train()
    assert any((tmp_path / "checkpoints").iterdir())
    resumed = LocalRun(config(), tmp_path, tiny_folder).train()
    assert lines(tmp_path, timing=False) == lines(finished.run_dir, timing=False)
    assert same(weights(resumed.learners.learner), weights(finished.learners.learner))
