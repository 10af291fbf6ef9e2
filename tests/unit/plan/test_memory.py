"""The formulas of memory, with a pencil: a model whose numbers are small and round."""

from __future__ import annotations

from typing import Any

import pytest

from sailrl.config.schema import RlvrConfig
from sailrl.config.sft import SftConfig
from sailrl.families.base import VisionShape
from sailrl.plan import memory as m
from sailrl.plan.memory import GIB, ModelShape
from sailrl.plan.memory_plan import PHASES, Cluster, learner_parts, memory_plan, stage_parts

SHAPE = ModelShape(
    name="round",
    decoder=1000,
    embedding=200,
    head=200,
    tower=500,
    projector=100,
    largest_layer=100,
    layers=10,
    hidden=8,
    inner=16,
    experts=0,
    experts_per_token=0,
    heads=4,
    kv_heads=2,
    head_dim=2,
    vocabulary=25,
    vision=VisionShape(
        layers=3, hidden=4, inner=8, values_per_patch=6, patches_per_token=4, pixels_per_token=100, outputs=2
    ),
)


def make(**sections: Any) -> RlvrConfig:
    base: dict[str, Any] = {
        "kind": "rlvr",
        "model": {"path": "unused", "dtype": "bfloat16"},
        "data": {"train": {"path": "unused"}, "max_prompt_tokens": 60},
        "rewards": {"parts": {"one": {"use": "unused:unused", "weight": 1.0}}},
        "rollout": {"max_response_tokens": 40},
        "learner": {"ranks": 2, "max_tokens_per_microbatch": 100},
    }
    merged = {name: base.get(name, {}) | sections.get(name, {}) for name in [*base, *sections] if name != "kind"}
    return RlvrConfig.model_validate({"kind": "rlvr", **merged})


def test_weights_gradients_and_moments_are_float32_shards() -> None:
    config = make()
    assert SHAPE.parameters == 2000  # 1000 + 200 + 200 + 500 + 100
    assert m.master_weights(SHAPE, 2) == 4000  # 4 x 2000 / 2
    assert m.gradients(SHAPE, config) == 4000
    assert m.moments(SHAPE, config) == 8000  # 8 x 2000 / 2


def test_more_copies_are_no_smaller_shards() -> None:
    two_copies = make(learner={"ranks": 4, "shard_ranks": 2})
    assert m.moments(SHAPE, two_copies) == m.moments(SHAPE, make())
    assert m.moments(SHAPE, make(learner={"ranks": 4})) == 4000  # 8 x 2000 / 4


def test_an_offloaded_optimizer_is_in_the_machine_instead_of_the_gpu() -> None:
    here, there = make(), make(learner={"offload": "optimizer"})
    cluster = Cluster(1, 8, 80.0)
    on_gpu = [learner_parts(config, SHAPE)["optimizer"][0] for config in (here, there)]
    assert on_gpu == [8000, 0]
    hosts = [sum(memory_plan(config, SHAPE, cluster).host.values()) for config in (here, there)]
    # 2 ranks x (4000 + 4000 + 8000 and one root of 4 x 200 / 2)
    assert hosts[1] - hosts[0] == 2 * (16000 + 400)


def test_what_is_frozen_has_weights_only() -> None:
    config = make(model={"freeze": ["vision", "projector"]})
    assert m.gradients(SHAPE, config) == 2800  # 4 x (2000 - 500 - 100) / 2
    assert m.master_weights(SHAPE, 2) == 4000


def test_an_adapter_has_gradients_for_itself_only() -> None:
    config = make(model={"lora": {"rank": 2, "target_modules": ["q_proj", "up_proj"]}})
    # 10 layers x rank 2 x ((8 + 4 x 2) + (8 + 16)) = 20 x 40 = 800
    assert SHAPE.trainable(config.model) == 800
    assert m.moments(SHAPE, config) == 3200  # 8 x 800 / 2


def test_compute_copies_are_the_root_and_a_few_layers_or_everything_on_one_rank() -> None:
    # 2 x (200 + 200 + 100) + (3 x 2 + 4) x 100
    assert m.gathered(SHAPE, make()) == 2000
    assert m.gathered(SHAPE, make(learner={"ranks": 1})) == 4000  # autocast keeps 2 x 2000
    assert m.gathered(SHAPE, make(learner={"ranks": 1}, model={"dtype": "float32"})) == 0


@pytest.mark.parametrize("ranks", [1, 2])
def test_float16_takes_what_bfloat16_takes(ranks: int) -> None:
    plans = []
    for dtype in ("bfloat16", "float16", "float32"):
        config = make(learner={"ranks": ranks}, rollout={"workers": ranks}, model={"dtype": dtype})
        plans.append(memory_plan(config, SHAPE, Cluster(1, 8, 80.0)))
    assert plans[0] == plans[1] != plans[2]


def test_a_layers_activations_per_token() -> None:
    # c = 2: norms 2 x 8 x 8 = 128; q and k 8 x (8 + 4) = 96; v 2 x 4 = 8; output 2 x 2 x 8 = 32; statistics 4 x 4 = 16;
    # MLP 4 x 2 x 16 = 128
    assert m.layer_activations(SHAPE, 2) == 408
    # c = 4: norms 2 x 12 x 8 = 192; q and k 12 x 12 = 144; v 16; output 64; statistics 16; MLP 256
    assert m.layer_activations(SHAPE, 4) == 688


def test_recomputed_layers_keep_their_input_only() -> None:
    config = make(
        learner={"activation_checkpointing": True},
        data={"max_pixels": 500},
        rollout={"engine": {"images_per_prompt": 2}},
    )
    assert m.image_tokens(SHAPE, config) == 10  # 500 / 100 = 5 tokens x 2 images, fewer than the 60 of a prompt
    # text: 100 tokens x (10 layers x 2 x 8 + last norm 8 x 8) = 22400; tower: 40 patches x 3 x 2 x 4 = 960;
    # merged: 10 tokens x 2 outputs x 2 x (2 x 4 x 4 + 8) = 1600
    assert m.kept_activations(SHAPE, config) == 22400 + 960 + 1600
    kept = make(data={"max_pixels": 500}, rollout={"engine": {"images_per_prompt": 2}})
    # 100 x (10 x 408 + 64) = 414400; 40 x 3 x 2 x (11 x 4 + 2 x 8) = 14400; 1600
    assert m.kept_activations(SHAPE, kept) == 414400 + 14400 + 1600


def test_the_head_never_holds_tokens_times_vocabulary() -> None:
    # (2 + 4 + 2) x 100 x 8 = 6400; (4 + 2) x 25 x 8 = 1200; two tiles of 100 x 25 float32: 20000
    assert m.head_work(SHAPE, make()) == 27600


def test_pixels_are_float32_patches() -> None:
    assert (
        m.pixels(SHAPE, make()) == 60 * 4 * 6 * 4
    )  # a prompt full of image tokens, 4 patches each, 6 numbers, 4 bytes


def test_keys_and_values_per_token() -> None:
    assert m.cache_per_token(SHAPE, make()) == 160  # 2 x 10 layers x 2 heads x 2 x 2 bytes
    wide = make(rollout={"engine": {"tensor_parallel": 4}})
    assert m.cache_per_token(SHAPE, wide) == 80  # 2 heads on 4 GPUs: one each, none is split


def test_checkpoints_are_weights_and_moments_as_often_as_kept_and_once_more() -> None:
    assert m.checkpoint_disk(SHAPE, make(checkpoint={"keep": 3})) == 4 * (4 + 8) * 2000


def test_on_a_shared_gpu_the_engine_has_nothing_while_the_rank_learns() -> None:
    config = make(rollout={"workers": 2}).model_copy(update={"placement": "colocated"})
    (gpu,) = memory_plan(config, SHAPE, Cluster(1, 2, 80.0)).gpus
    assert gpu.parts["KV cache"][:4] == (0, 0, 0, 0)
    assert gpu.parts["engine's weights"] == (0, 0, 0, 4000, 4000)
    assert gpu.parts["activations"][3:] == (0, 0)
    learner = learner_parts(config, SHAPE)
    assert all(gpu.parts[name] == sizes for name, sizes in learner.items())
    # 0.85 of 80 GiB for the engine, 2 x 1.5 for CUDA, two tiles of 512 x 16,384 floats, the rest is bytes
    assert gpu.total(PHASES.index("rollout")) / GIB == pytest.approx(68 + 3 + 1 / 16, abs=0.001)


def test_split_gpus_are_counted_apart() -> None:
    learner, engine = memory_plan(make(), SHAPE, Cluster(1, 3, 80.0)).gpus
    assert "KV cache" not in learner.parts
    assert engine.peak / GIB == pytest.approx(68)
    assert len(set(engine.parts["KV cache"])) == 1  # it never sleeps


def test_a_cluster_that_is_too_small_is_a_fault_and_not_an_error() -> None:
    (fault,) = memory_plan(make(), SHAPE, Cluster(1, 2, 80.0)).faults()
    assert "needs 3 GPUs" in fault
    assert "the cluster has 2" in fault


def test_an_engine_that_cannot_hold_one_sequence_is_a_fault() -> None:
    config = make(rollout={"engine": {"gpu_memory_utilization": 0.1}})
    found = memory_plan(config, SHAPE, Cluster(1, 3, 10.0)).faults()  # 1 GiB, all of it for CUDA graphs
    assert found == ["the engine's cache holds 0 tokens, fewer than the 100 of one sequence at its longest."]


def _stage(**sections: Any) -> SftConfig:
    base: dict[str, Any] = {
        "kind": "sft",
        "model": {"path": "unused", "dtype": "bfloat16"},
        "data": {"train": {"path": "unused"}, "max_prompt_tokens": 60, "max_tokens": 100},
        "training": {"max_tokens_per_microbatch": 100},
        "learner": {"ranks": 2},
    }
    return SftConfig.model_validate({**base, **sections})


def test_a_rank_of_a_supervised_stage_holds_what_one_of_rl_holds_while_it_learns() -> None:
    stage, rl = stage_parts(_stage(), SHAPE), learner_parts(make(), SHAPE)
    assert rl.keys() - stage.keys() == {"probe", "weight transfer"}
    assert all(stage[name] == rl[name][:3] for name in stage)
    assert stage["optimizer"] == (8000, 8000, 12000)  # 8 x 2000 / 2, and the root of the second moment


def test_a_supervised_stage_is_placed_without_engines_and_its_search_keeps_a_copy() -> None:
    plan = memory_plan(_stage(), SHAPE, Cluster(nodes=1, gpus_per_node=2, gpu_gib=8))
    assert plan.where is not None
    assert (plan.where.ranks, plan.where.engines) == ((0, 0), ())
    assert not plan.faults()
    searched = _stage(training={"lr_search": {"window_steps": 2}})
    searching = memory_plan(searched, SHAPE, Cluster(nodes=1, gpus_per_node=2, gpu_gib=8))
    assert sum(searching.host.values()) - sum(plan.host.values()) == 12 * 2000
    few = memory_plan(_stage(learner={"ranks": 3}), SHAPE, Cluster(nodes=1, gpus_per_node=2, gpu_gib=8))
    assert few.faults()[0].startswith("the run needs 3 GPUs (3 for learner.ranks), but the cluster has 2.")
