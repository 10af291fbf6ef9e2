"""What a run needs of its machine is asked for before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sailrl.config.checks import preflight
from sailrl.config.load import load
from sailrl.config.needs import cuda_devices
from sailrl.errors import ConfigError


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose every need is met, in the folder one runs from."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "class Right:\n"
        "    def __init__(self, strict: bool = False) -> None:\n"
        "        assert isinstance(strict, bool), 'strict is true or false'\n"
        "    def __call__(self, response, problem):\n"
        "        return 1.0\n"
        "def rows(count: int):\n    return []\n"
        "def combine():\n    return None\n"
    )
    Path("train.jsonl").write_text('{"prompt": "1 + 1", "answer": "2"}\n')
    path = tmp_path / "c.yaml"
    path.write_text(
        "kind: rlvr\n"
        "model: {path: org/model}\n"
        "data: {train: {path: train.jsonl}, max_prompt_tokens: 100}\n"
        "rewards: {parts: {right: {use: 'mine.py:Right', weight: 1.0}}, combine: {use: 'mine.py:combine'}}\n"
        "rollout: {max_response_tokens: 50}\n"
    )
    return path


def missing(base: Path, *overrides: str) -> str:
    loaded = load(base, overrides)
    with pytest.raises(ConfigError) as error:
        preflight(loaded.config, loaded.where)
    return str(error.value)


def fine(base: Path, *overrides: str) -> None:
    loaded = load(base, overrides)
    preflight(loaded.config, loaded.where)


WHOLE = (2).to_bytes(8, "little") + b"{}"
"""A safetensors file without tensors."""


def test_a_chat_template_is_a_file_or_plain(base: Path) -> None:
    fine(base, "data.chat_template=plain")
    assert "data.chat_template is 'plane', but there is no file" in missing(base, "data.chat_template=plane")


def model_folder(name: str, config: dict[str, Any] | None, *files: str) -> str:
    folder = Path(name)
    folder.mkdir()
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    for file in files:
        (folder / file).write_bytes(WHOLE)
    return f"model.path=./{name}"


def test_a_machine_with_everything_passes(base: Path) -> None:
    fine(base)


# --- data ----------------------------------------------------------------------------------------------------------


def test_a_missing_data_file_is_named_in_full(base: Path) -> None:
    assert missing(base, "data.train.path=tran.jsonl") == (
        f"command line, data.train.path=...: data.train.path is 'tran.jsonl', but there is no file "
        f"{base.parent / 'tran.jsonl'}. Relative paths start at the folder you run from."
    )


def test_a_pattern_matches_a_file_and_a_name_on_the_hub_needs_none(base: Path) -> None:
    assert "data.eval.path is './*.parquet', but no file matches" in missing(base, "data.eval.path=./*.parquet")
    fine(base, "data.eval.path=./*.jsonl")
    fine(base, "data.eval.path=hiyouga/geometry3k", "data.eval.split=test")


def test_what_only_a_dataset_has_is_refused_for_a_file(base: Path) -> None:
    said = missing(base, "data.train.split=train")
    assert "data.train.split is set, but has no meaning for train.jsonl, which is no dataset on the hub." in said


def test_every_file_of_a_list_is_looked_for(base: Path) -> None:
    base.write_text(
        "kind: fuse\ncot: [train.jsonl, gone.jsonl]\ncot_share: 1.0\ndecontaminate: {files: [eval.jsonl]}\n"
    )
    said = missing(base)
    assert "cot.1 is 'gone.jsonl', but there is no file" in said
    assert "decontaminate.files.0 is 'eval.jsonl', but there is no file" in said
    assert "cot.0" not in said


def test_a_benchmark_to_keep_out_needs_its_file_too(base: Path) -> None:
    base.write_text(
        "kind: fuse\ncot: [train.jsonl]\ncot_share: 1.0\ndecontaminate: {benchmarks: [mmstar], benchmarks_folder: .}\n"
    )
    assert "decontaminate.benchmarks.0 is mmstar needs" in missing(base)


# --- model ---------------------------------------------------------------------------------------------------------


def test_a_whole_model_folder_passes(base: Path) -> None:
    fine(base, model_folder("whole", {"max_position_embeddings": 150}, "model.safetensors"))


def test_every_model_of_an_evaluation_has_positions_for_its_prompts(base: Path) -> None:
    model_folder("short", {"max_position_embeddings": 149}, "model.safetensors")
    model_folder("long", {"max_position_embeddings": 150}, "model.safetensors")
    base.write_text(
        "kind: eval\n"
        "models: {long: {path: ./long}, short: {path: ./short}}\n"
        "data: {problems: {path: train.jsonl}, max_prompt_tokens: 100}\n"
        "rewards: {parts: {right: {use: 'mine.py:Right', weight: 1.0}}, combine: {use: 'mine.py:combine'}}\n"
        "rollout: {max_response_tokens: 50}\n"
    )
    said = missing(base)
    assert "together 150, but ./short has 149 positions. Write max_prompt_tokens: 99" in said
    assert "./long" not in said


def test_a_language_model_inside_another_has_its_positions_too(base: Path) -> None:
    inner = {"llm_config": {"max_position_embeddings": 20}, "model_type": "sailvl"}
    assert "has 20 positions. Write max_prompt_tokens: " in missing(
        base, model_folder("sail", inner, "model.safetensors")
    )


def test_an_adapter_alone_is_named_with_its_base_and_the_way_out(base: Path) -> None:
    folder = model_folder("adapter", None, "adapter_model.safetensors")
    (base.parent / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    assert (
        "model.path is './adapter', an adapter of org/base and no model. Merge them: "
        "sailrl merge ./adapter --out ./adapter-merged" in missing(base, folder)
    )


LLAVA = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "vision_config": {"a": 1}}


def test_a_kind_of_model_that_is_not_supported_is_refused_before_anything_starts(base: Path) -> None:
    said = missing(base, model_folder("seeing", LLAVA, "model.safetensors"))
    assert "model.path is './seeing', of kind LlavaForConditionalGeneration (llava): this kind of" in said
    base.write_text("{kind: sft, model: {path: ./seeing}, data: {train: {path: train.jsonl}}}")
    assert "Supported: SAIL-VL2" in missing(base)


def test_what_only_the_learner_cannot_compute_may_be_evaluated_and_filtered_with(base: Path) -> None:
    scaled = {"model_type": "granite", "architectures": ["GraniteForCausalLM"], "logits_scaling": 8.0}
    assert "whose logits are changed by logits_scaling" in missing(
        base, model_folder("granite", scaled, "model.safetensors")
    )
    model_folder("other", LLAVA, "model.safetensors")
    rest = base.read_text().partition("\n")[2].replace("train: {path", "problems: {path").partition("\n")[2]
    base.write_text("kind: filter\nmodel: {path: ./granite}\n" + rest)
    fine(base)
    assert "Supported: SAIL-VL2" in missing(base, "model.path=./other")
    base.write_text("kind: eval\nmodels: {a: {path: ./granite}}\n" + rest)
    fine(base)
    assert "models.a.path is './other', of kind" in missing(base, "models.a.path=./other")


def test_a_model_folder_without_weights_is_refused(base: Path) -> None:
    assert "model.path is './bare', but that folder has no *.safetensors." in missing(base, model_folder("bare", {}))


def test_a_model_folder_without_anything_lacks_both(base: Path) -> None:
    assert "has no config.json and no *.safetensors." in missing(base, model_folder("empty", None))


def test_weights_that_transformers_would_not_find_are_refused(base: Path) -> None:
    folder = model_folder("renamed", {}, "weights.safetensors")
    assert "has no model.safetensors or model.safetensors.index.json." in missing(base, folder)


def test_old_weights_are_recognised(base: Path) -> None:
    folder = model_folder("old", {}, "pytorch_model.bin")
    assert missing(base, folder).endswith("It has *.bin weights: save them as safetensors first.")


def test_a_missing_shard_is_named(base: Path) -> None:
    folder = model_folder("sharded", {}, "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    Path("sharded/model.safetensors.index.json").write_text(json.dumps(index))
    assert "that folder has no model-2.safetensors." in missing(base, folder)


HEADER = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (len(HEADER).to_bytes(8, "little") + HEADER + bytes(7), "promises 70 bytes, the file has 69"),
        (len(HEADER).to_bytes(8, "little") + HEADER + bytes(9), "promises 70 bytes, the file has 71"),
        (len(HEADER).to_bytes(8, "little") + HEADER[:20], "its header cannot be read"),
        (b"", "its header cannot be read"),
        (b"<!DOCTYPE html>", "its header cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n", "its header cannot be read"),
        ((2).to_bytes(8, "little") + b"[]", "its header cannot be read"),
    ],
)
def test_a_weights_file_that_is_not_whole_is_named(base: Path, content: bytes, said: str) -> None:
    # 8 bytes for the length of the header, 54 of header, 8 for two numbers of 4 bytes: 70.
    folder = model_folder("cut", {}, "model.safetensors")
    fine(base, folder)
    Path("cut/model.safetensors").write_bytes(content)
    message = missing(base, folder)
    assert "cut/model.safetensors is" in message
    assert said in message


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/model", "runs/rlvr/checkpoints/9"])
def test_a_model_folder_that_does_not_exist_is_refused(base: Path, path: str) -> None:
    assert "does not exist; a model is a folder in Hugging Face format" in missing(base, f"model.path={path}")


def test_a_path_into_a_folder_that_is_here_is_no_name_on_the_hub(base: Path) -> None:
    Path("models").mkdir()
    assert "models/nope does not exist" in missing(base, "model.path=models/nope")
    fine(base, "model.path=org/nope")


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_a_config_json_without_an_object_is_refused(base: Path, content: str) -> None:
    override = model_folder("odd", {}, "model.safetensors")
    fine(base, override)
    Path("odd", "config.json").write_text(content)
    assert "its config.json holds no JSON object" in missing(base, override)


@pytest.mark.parametrize("run_dir", ["train.jsonl", "train.jsonl/runs/one"])
def test_a_run_folder_is_no_file(base: Path, run_dir: str) -> None:
    assert "but train.jsonl is a file. Name a folder." in missing(base, f"run.dir={run_dir}")


def test_an_empty_path_is_no_folder(base: Path) -> None:
    assert "data.train.path is empty" in missing(base, "data.train.path=")


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen3-VL-8B-Thinking"])
def test_a_name_on_the_hub_is_not_looked_up(base: Path, name: str) -> None:
    fine(base, f"model.path={name}")


@pytest.mark.parametrize(
    "config",
    [
        {"max_position_embeddings": 149},
        {"max_position_embeddings": 99999, "text_config": {"max_position_embeddings": 149}},
    ],
)
def test_a_sequence_longer_than_the_models_positions_is_refused(base: Path, config: dict[str, Any]) -> None:
    # 100 prompt + 50 response = 150 tokens; 149 - 50 leaves a prompt of 99.
    message = missing(base, model_folder("short", config, "model.safetensors"))
    assert "is 100 and rollout.max_response_tokens is 50, together 150, but ./short has 149 positions." in message
    assert "Write max_prompt_tokens: 99" in message


def test_stretched_positions_count(base: Path) -> None:
    stretched = {
        "max_position_embeddings": 100,
        "rope_scaling": {"factor": 1.5, "rope_type": "yarn"},
    }  # 100 x 1.5 = 150
    fine(base, model_folder("stretched", stretched, "model.safetensors"))


# --- plug-ins ------------------------------------------------------------------------------------------------------


def test_a_reward_that_does_not_exist_names_its_neighbours(base: Path) -> None:
    assert missing(base, "rewards.parts.right.use='mine.py:Rigth'") == (
        "command line, rewards.parts.right.use=...: rewards.parts.right.use does not load: plug-in 'mine.py:Rigth': "
        "mine.py has no 'Rigth'. It offers: Right."
    )


def test_a_module_that_does_not_import_quotes_its_error(base: Path) -> None:
    Path("broken.py").write_text("import nothing_of_that_name\n")
    message = missing(base, "rewards.parts.right.use='broken.py:Right'")
    assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in message
    assert len(message.split("\n\n")) == 1  # said once, not again for building it


def test_a_reward_that_cannot_be_built_says_why(base: Path) -> None:
    assert missing(base, "rewards.parts.right.args.strict=maybe").endswith(
        "rewards.parts.right cannot be used: plug-in 'mine.py:Right' could not be built with (strict='maybe'): "
        "AssertionError: strict is true or false"
    )


def test_an_argument_that_a_plug_in_does_not_take_is_refused(base: Path) -> None:
    assert missing(base, "rewards.parts.right.args.strikt=true").endswith(
        "rewards.parts.right.args.strikt is no argument of mine.py:Right, which takes strict."
    )


def test_generators_and_combining_rules_are_tried_too(base: Path) -> None:
    overrides = ["data.eval.generate={use: 'mine.py:rows', args: {size: 1}}", "rewards.combine.use='mine.py:combined'"]
    message = missing(base, *overrides)
    assert "data.eval.generate.args.size is no argument of mine.py:rows, which takes count." in message
    assert "rewards.combine.use does not load" in message


def test_everything_missing_is_reported_together(base: Path) -> None:
    message = missing(base, "data.train.path=no.jsonl", "rewards.parts.right.use='no.py:No'", "model.path=./no")
    assert message.startswith("3 things are wrong.")


@pytest.mark.parametrize("method", ["nccl", "ipc"])
def test_sending_weights_from_gpu_to_gpu_needs_a_gpu(base: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if cuda_devices():
        fine(base, f"sync.method={method}")
        return
    assert f"sync.method is {method}" in (said := missing(base, f"sync.method={method}"))
    assert "Write sync.method=disk" in said
    fine(base, "sync.method=disk")


def test_replaying_the_engines_experts_needs_a_gpu(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    fine(base, "learner.routing_replay=r2")
    if cuda_devices():
        fine(base, "learner.routing_replay=r3")
        return
    said = missing(base, "learner.routing_replay=r3")
    assert "learner.routing_replay is r3, which replays the experts that the engine chose" in said
    assert "Write routing_replay: r2" in said


def test_a_cluster_may_have_the_gpus_that_this_machine_has_not(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    fine(base, "sync.method=nccl")
    fine(base, "learner.routing_replay=r3")
