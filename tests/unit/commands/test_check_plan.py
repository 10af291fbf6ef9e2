"""``sailrl check`` plans with what it knows: a model by its name, other machines than this one, or a CPU.

The tests need a machine without a GPU, as most are that they run on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sailrl.commands.check import check_job
from sailrl.commands.check_plan import Machines
from sailrl.config.needs import cuda_devices
from sailrl.demo import tiny_text
from sailrl.errors import ConfigError
from tests.fakes.shapes import sail_vl2_8b

CONFIGS = Path(__file__).parents[3] / "configs"
EIGHT = Machines(1, 8, 80.0)

pytestmark = pytest.mark.skipif(cuda_devices() > 0, reason="this machine has a GPU")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def checked(config: str, *overrides: str, machines: Machines | None = None) -> tuple[str, str]:
    """What is printed, in lines as long as they come, and the error."""
    console, error = Console(width=2000, record=True), ""
    try:
        check_job(CONFIGS / config, overrides, console, machines=machines)
    except ConfigError as raised:
        error = str(raised)
    return console.export_text(), error


def test_the_first_command_of_the_readme_plans_a_model_that_is_not_here() -> None:
    printed, error = checked("rlvr_8b.yaml", machines=EIGHT)
    assert "8.77B parameters (" in printed
    assert "KV cache of an engine: " in printed
    assert "sequences at their longest (20,480) at once, where it is asked for 256; more where they" in printed
    assert "a step computes 8,192 tokens" in printed
    assert "DOES NOT FIT" not in printed
    assert error == ""  # its data and its model are on the hub


def test_time_comes_with_everything_that_was_assumed_for_it() -> None:
    printed, _ = checked("rlvr_8b.yaml", machines=EIGHT)
    (line,) = (line for line in printed.splitlines() if line.startswith("time, an estimate: "))
    assert " hours per episode, " in line
    assert " GPU-hours (generation " in line
    assert "all 273 episodes" in line
    assert (
        "assumed, not measured: prompts of 1,024 tokens; responses of 2,048, half of their limit; 1.5 groups" in printed
    )
    assert "each GPU an A100 with 312 TFLOP/s and an MFU of 40% in learning" in printed
    assert "which gives " in printed
    assert " tokens/s an engine" in printed


@pytest.mark.parametrize("machines", [Machines(nodes=1), None])
def test_other_machines_are_planned_for_although_this_one_has_no_gpu(machines: Machines | None) -> None:
    printed, error = checked("gspo_a3b.yaml", machines=machines)
    nodes = 1 if machines else 4
    assert f"on {nodes} x 8 GPUs of 80 GiB (assumed, in part" in printed
    assert ("DOES NOT FIT: the run needs 32 GPUs" in printed) == (nodes == 1)
    assert ("As it is written, it fits on 4 nodes." in printed) == (nodes == 1)
    assert "sync.method" not in error


def test_what_needs_a_gpu_is_refused_where_the_plan_is_for_the_cpu() -> None:
    _, error = checked("gspo_a3b.yaml", machines=Machines(gpus_per_node=0))
    assert "sync.method is nccl, which sends weights from GPU to GPU, but this machine has no GPU" in error


def test_without_a_gpu_and_without_another_machine_the_cpu_is_planned_for(tmp_path: Path) -> None:
    tiny_text.build(tmp_path / "model", hidden_size=32, layers=1)
    model = f"model={{path: {tmp_path / 'model'}, dtype: float32}}"
    small = ("data.max_prompt_tokens=64", "warm_start=null")
    for machines in (None, Machines(gpus_per_node=0)):
        printed, error = checked("rlvr_tiny_text.yaml", model, *small, machines=machines)
        assert error == ""
        assert " CPU cores and " in printed
        assert "GPUs of 80 GiB" not in printed
        assert "learning  publishing  generating" in printed
        assert " hours per episode (generation " in printed
        assert "GPU-hours" not in printed


def test_a_model_too_large_for_this_machine_is_told_both_numbers_and_planned_for_gpus() -> None:
    printed, _ = checked("rlvr_8b.yaml")
    assert "DOES NOT FIT: the run needs " in printed
    assert "or GPUs." in printed
    assert (
        printed.index("DOES NOT FIT") < printed.index("on 1 x 8 GPUs of 80 GiB (assumed") < printed.index("GPU-hours")
    )
    alone, _ = checked("rlvr_8b.yaml", machines=Machines(gpus_per_node=0))
    assert "GPUs of 80 GiB" not in alone
    assert "time, an estimate" not in alone  # of a run that cannot be


def test_an_unknown_model_is_told_the_two_lines_to_write() -> None:
    printed, _ = checked("rlvr_8b.yaml", "model.path=someone/new-model", machines=EIGHT)
    assert "no plan of memory and time: the config of someone/new-model is not on this machine" in printed
    assert "  hf download someone/new-model config.json --local-dir model_config\n" in printed
    assert "check again with --model-config model_config" in printed
    printed, error = checked("mixed_8b.yaml", machines=EIGHT)
    assert "runs/think_fusion_sft/model has no config.json yet" in printed
    assert "model.path is 'runs/think_fusion_sft/model', but" in error


def test_sail_vl2_is_planned_with_its_tower(tmp_path: Path) -> None:
    """From the table, and from a config.json: the tower has 682 million of its parameters."""
    known, error = checked("sail_vl2_8b.yaml", machines=EIGHT)
    assert "8.91B parameters (SAIL-VL2-8B, from" in known
    assert "not supported" not in error
    folder = sail_vl2_8b(tmp_path)
    printed, _ = checked("sail_vl2_8b.yaml", machines=replace(EIGHT, model_config=folder))
    assert f"8.91B parameters (config of {folder})" in printed
    assert printed.split("config of")[1].splitlines()[1:] == known.split("SAIL-VL2-8B, from")[1].splitlines()[1:]


def test_the_supervised_stages_of_the_recipe_fit_on_eight_gpus_and_not_on_one() -> None:
    printed, error = checked("longcot_sft.yaml", machines=Machines(nodes=1))
    assert "8.77B parameters (" in printed
    assert "node 0: learner ranks 0-7 on a GPU each" in printed
    assert "DOES NOT FIT" not in printed
    assert "KV cache" not in printed
    assert error == ""
    printed, _ = checked("longcot_sft.yaml", "learner.ranks=1", machines=Machines(nodes=1))
    assert "DOES NOT FIT: a GPU of a learner rank needs " in printed
    assert "No single setting helps; learner.ranks: 4 on 1 node(s) fits." in printed


def test_a_small_supervised_stage_is_planned_for_the_cpu(tmp_path: Path) -> None:
    tiny_text.build(tmp_path / "model", hidden_size=32, layers=1)
    model = f"model={{path: {tmp_path / 'model'}, dtype: float32}}"
    rows = "data.train={generate: {use: 'sailrl.demo.additions:rows', args: {count: 8, seed: 1}}}"
    small = ("data.max_tokens=64", "training.max_tokens_per_microbatch=64", "data.balance=null", "data.steps={}")
    for ranks, process in ((1, "the command, which learns"), (2, "learner (2)")):
        printed, error = checked("longcot_sft.yaml", model, rows, *small, f"learner.ranks={ranks}")
        assert error == ""
        assert " CPU cores and " in printed
        assert process in printed
        assert "DOES NOT FIT" not in printed
