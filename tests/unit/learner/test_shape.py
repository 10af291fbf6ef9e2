"""Shapes from a config alone, against known totals, and the plan that they give for the configurations we ship."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from sailrl.commands.check_plan import Machines, print_plan
from sailrl.config.load import load_config
from sailrl.config.schema import RlvrConfig
from sailrl.demo import tiny_text, tiny_vlm
from sailrl.errors import ConfigError
from sailrl.learner.model import Policy
from sailrl.learner.shape import model_shape
from sailrl.plan.memory import ModelShape
from sailrl.plan.memory_plan import Cluster, advice, memory_plan
from tests.fakes.shapes import write_config

CONFIGS = Path(__file__).parents[3] / "configs"
BIG = {
    "rlvr_2b": ("2b", Cluster(1, 8)),
    "rlvr_8b": ("8b", Cluster(1, 8)),
    "mixed_8b": ("8b", Cluster(1, 8)),
    "gspo_a3b": ("30b-a3b", Cluster(4, 8)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("shapes")
    return {name: write_config(name, root / name) for name, _ in BIG.values()}


def config_of(name: str, *overrides: str) -> RlvrConfig:
    config = load_config(CONFIGS / f"{name}.yaml", overrides)
    assert isinstance(config, RlvrConfig)
    return config


@pytest.mark.parametrize(("name", "billions"), [("2b", 2.13), ("8b", 8.77), ("30b-a3b", 31.07)])
def test_parameters_add_up_to_the_known_total(folders: dict[str, Path], name: str, billions: float) -> None:
    assert model_shape(folders[name]).parameters / 1e9 == pytest.approx(billions, abs=0.005)


def test_the_8b_model_part_by_part(folders: dict[str, Path]) -> None:
    shape = model_shape(folders["8b"])
    assert shape.embedding == shape.head == 151936 * 4096
    # 4096 x 128 x (32 + 8 + 8 + 32) + 3 x 4096 x 12288 + two norms of 4096 and two of 128
    assert shape.largest_layer == 192_946_432
    assert shape.decoder == 36 * shape.largest_layer + 4096
    assert (shape.inner, shape.kv_heads, shape.head_dim, shape.layers) == (12288, 8, 128, 36)
    assert shape.vision is not None
    assert (shape.vision.layers, shape.vision.patches_per_token, shape.vision.pixels_per_token) == (27, 4, 1024)
    assert (shape.vision.values_per_patch, shape.vision.outputs) == (3 * 2 * 16 * 16, 4)


def test_tied_embeddings_count_once_and_a_token_sees_its_own_experts(folders: dict[str, Path]) -> None:
    assert model_shape(folders["2b"]).head == 0
    sparse = model_shape(folders["30b-a3b"])
    assert (sparse.experts, sparse.experts_per_token, sparse.inner) == (128, 8, 8 * 768)


@pytest.mark.parametrize("build", [tiny_text.build, tiny_vlm.build])
def test_a_shape_counts_what_the_learner_holds(build: Callable[[Path], object], tmp_path: Path) -> None:
    build(tmp_path / "m")
    held = sum(p.numel() for p in Policy(str(tmp_path / "m")).parameters())
    assert model_shape(tmp_path / "m").parameters == held


@pytest.mark.parametrize("name", BIG)
def test_the_big_configurations_fit_their_machines(folders: dict[str, Path], name: str) -> None:
    model, cluster = BIG[name]
    plan = memory_plan(config_of(name), model_shape(folders[model]), cluster)
    assert plan.faults() == []
    assert plan.kv_tokens > 8 * plan.longest  # the engine is of use


@pytest.fixture(scope="module")
def eight(folders: dict[str, Path]) -> ModelShape:
    return model_shape(folders["8b"])


@pytest.mark.parametrize(
    ("overrides", "fault", "fix"),
    [
        (["learner.activation_checkpointing=false"], "largest part is activations", "activation_checkpointing: true"),
        (["rollout.engine.gpu_memory_utilization=0.95"], "in phase rollout", "gpu_memory_utilization: 0.7"),
        (["learner.max_tokens_per_microbatch=200000"], "in phase backward", "max_tokens_per_microbatch: 20480"),
        (["learner.ranks=1", "rollout.workers=1"], "largest part is optimizer", "learner.ranks: 8 on 1 node"),
        # A sample of 65,536 tokens is never split, so more GPUs leave its activations where they are.
        (
            ["data.max_prompt_tokens=61440", "learner.max_tokens_per_microbatch=65536"],
            "largest part is activations",
            "Write learner.offload: optimizer.",
        ),
    ],
)
def test_a_bad_fit_names_the_largest_part_and_a_change_that_helps(
    eight: ModelShape, overrides: list[str], fault: str, fix: str
) -> None:
    config = config_of("rlvr_8b", *overrides)
    assert any(fault in text for text in memory_plan(config, eight, Cluster(1, 8)).faults())
    assert fix in advice(config, eight, Cluster(1, 8))


def test_a_configuration_for_more_nodes_is_told_how_many_it_is_for(folders: dict[str, Path]) -> None:
    # 16 ranks and 8 engines of 2 GPUs are 32 GPUs, four nodes of 8.
    shape = model_shape(folders["30b-a3b"])
    for nodes in (1, 2, 3):
        assert advice(config_of("gspo_a3b"), shape, Cluster(nodes, 8)) == "As it is written, it fits on 4 nodes."
    assert advice(config_of("gspo_a3b"), shape, Cluster(1, 16)) == "As it is written, it fits on 2 nodes."


def test_two_machines_are_out_of_reach_of_shared_memory(eight: ModelShape) -> None:
    config = config_of("rlvr_8b")
    (fault,) = memory_plan(config, eight, Cluster(2, 4)).faults()
    assert fault.startswith("sync.method is disk")
    assert advice(config, eight, Cluster(2, 4)) == "Write sync.method: ipc."


def printed(config: RlvrConfig, machines: Machines) -> list[str]:
    console = Console(width=80, record=True, quiet=False, file=None)
    with console.capture() as captured:
        print_plan(config, machines, console)
    return captured.get().splitlines()


def test_the_plan_in_words(folders: dict[str, Path]) -> None:
    lines = printed(config_of("gspo_a3b"), Machines(4, 8, 80.0, folders["30b-a3b"]))
    text = "\n".join(lines)
    assert "31.07B parameters (config of" in text
    assert "on 4 x 8 GPUs of 80 GiB; split placement" in text
    assert re.search(r"^weights \(float32\) +7\.2 +7\.2 +7\.2 +7\.2 +7\.2$", text, re.MULTILINE)  # 4 x 31.07e9 / 16
    assert re.search(r"^optimizer +14\.5 +14\.5 +21\.7 ", text, re.MULTILINE)
    assert "node 0: learner ranks 0-7 on a GPU each" in text
    assert "node 3: engines 4-7 on 2 GPUs each" in text
    assert "DOES NOT FIT" not in text
    assert max(len(line) for line in lines if re.match(r"[a-z].*  ", line)) <= 80  # the tables


def test_a_misfit_is_said_loudly(folders: dict[str, Path]) -> None:
    text = "\n".join(printed(config_of("rlvr_8b"), Machines(1, 8, 40.0, folders["8b"])))
    assert "DOES NOT FIT: a GPU of rank and engine needs" in text
    assert "and has 40" in text


def test_a_config_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"cannot use config\.json of the model"):
        model_shape(tmp_path)
